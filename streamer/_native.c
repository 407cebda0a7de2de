/* The inner loop of the fan-out in C: for every receiver of a batch, copy, number, seal, send.
 *
 * Does exactly what `fanout.send_in_python` does, which stays as the fallback where no compiler was
 * at hand; docs/decisions/007-native-inner-loop.md has the figures that decided it. It knows
 * nothing of sessions: it gets an array of jobs (one receiver each), the batch laid out by
 * `fanout.Prepared`, and libsrtp's srtp_protect as an address.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

enum { SEGMENTS = 1 };

/* Mirrors fanout.JOB; one receiver. The last five are written here and read by `FanoutGroup`. */
typedef struct {
  uint64_t context;
  int32_t fd;
  uint32_t ssrc;
  uint32_t seq_offset;
  uint32_t timestamp_offset;
  uint32_t flags;
  uint32_t protect_errors;
  uint64_t packets;
  uint64_t octets;
  uint32_t would_block;
  uint32_t send_errors;
} Job;

/* Mirrors fanout.PACKET and fanout.RUN. */
typedef struct {
  uint32_t offset, size, seq, timestamp;
} Packet;
typedef struct {
  uint32_t start, end, segment, first, count;
} Run;

typedef int (*Protect)(void *context, void *header, int *length);

static uint16_t big16(uint32_t v) { return htons((uint16_t)v); }

static int refuses_segmentation(int error) {
  return error == EINVAL || error == EIO || error == EMSGSIZE || error == EOPNOTSUPP ||
         error == ENOPROTOOPT;
}

static ssize_t send_run(int fd, unsigned char *scratch, const Run *run) {
  struct iovec vector = {scratch + run->start, run->end - run->start};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  union {
    char bytes[CMSG_SPACE(sizeof(uint16_t))];
    struct cmsghdr align;
  } control;
  memset(&control, 0, sizeof control);
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_UDP;
  header->cmsg_type = UDP_SEGMENT;
  header->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  uint16_t segment = (uint16_t)run->segment;
  memcpy(CMSG_DATA(header), &segment, sizeof segment);
  return sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* Sends one receiver's batch; 0, or the errno of the first send that failed. */
static int send_all(Job *job, unsigned char *scratch, const Run *runs, size_t run_count,
                    const Packet *packets, uint32_t tag) {
  for (size_t r = 0; r < run_count; r++) {
    const Run *run = &runs[r];
    if (run->count == 1) {
      if (send(job->fd, scratch + run->start, run->end - run->start, MSG_NOSIGNAL) < 0)
        return errno;
      continue;
    }
    if (job->flags & SEGMENTS) {
      if (send_run(job->fd, scratch, run) >= 0) continue;
      if (!refuses_segmentation(errno)) return errno;
      job->flags &= ~(uint32_t)SEGMENTS; /* decided once per socket; this run goes out plainly */
    }
    for (uint32_t p = run->first; p < run->first + run->count; p++)
      if (send(job->fd, scratch + packets[p].offset, packets[p].size + tag, MSG_NOSIGNAL) < 0)
        return errno;
  }
  return 0;
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void observe(double delay, uint64_t weight, const double *bounds, size_t bound_count,
                    uint64_t *counts, double *total) {
  size_t bucket = 0;
  while (bucket < bound_count && bounds[bucket] < delay) bucket++;
  counts[bucket] += weight;
  *total += delay * (double)weight;
}

/* fan_out(jobs, scratch, template, packets, runs, octets, tag_bytes, protect, received_at, bounds,
 *         counts, total) -> (packets sent, receivers that lost something) */
static PyObject *fan_out(PyObject *self, PyObject *arguments) {
  (void)self;
  Py_buffer jobs, scratch, template, packets, runs, bounds, counts, total;
  unsigned long long octets, protect_address;
  unsigned int tag;
  double received_at;
  if (!PyArg_ParseTuple(arguments, "w*w*y*y*y*KIKdy*w*w*", &jobs, &scratch, &template, &packets,
                        &runs, &octets, &tag, &protect_address, &received_at, &bounds, &counts,
                        &total))
    return NULL;

  size_t job_count = (size_t)jobs.len / sizeof(Job);
  size_t packet_count = (size_t)packets.len / sizeof(Packet);
  size_t run_count = (size_t)runs.len / sizeof(Run);
  size_t bound_count = (size_t)bounds.len / sizeof(double);
  PyObject *result = NULL;
  /* What Python laid out must lie inside the scratch buffer, whatever it says. */
  int sound = template.len <= scratch.len && counts.len >= (Py_ssize_t)((bound_count + 1) * 8) &&
              total.len >= 8 && protect_address != 0;
  const Packet *packet_list = packets.buf;
  const Run *run_list = runs.buf;
  for (size_t p = 0; sound && p < packet_count; p++)
    sound = packet_list[p].size >= 12 &&
            (uint64_t)packet_list[p].offset + packet_list[p].size + tag <= (uint64_t)template.len;
  for (size_t r = 0; sound && r < run_count; r++)
    sound = run_list[r].start < run_list[r].end && run_list[r].end <= (uint64_t)template.len &&
            (uint64_t)run_list[r].first + run_list[r].count <= packet_count;
  if (!sound) {
    PyErr_SetString(PyExc_ValueError, "the batch does not fit its buffers");
    goto done;
  }

  Protect protect = (Protect)(uintptr_t)protect_address;
  unsigned char *bytes = scratch.buf;
  Job *job_list = jobs.buf;
  unsigned long long sent = 0, troubled = 0;
  for (size_t j = 0; j < job_count; j++) {
    Job *job = &job_list[j];
    memcpy(bytes, template.buf, (size_t)template.len);
    for (size_t p = 0; p < packet_count; p++) {
      unsigned char *header = bytes + packet_list[p].offset;
      uint16_t seq = big16(packet_list[p].seq + job->seq_offset);
      uint32_t timestamp = htonl(packet_list[p].timestamp + job->timestamp_offset);
      uint32_t ssrc = htonl(job->ssrc);
      memcpy(header + 2, &seq, 2);
      memcpy(header + 4, &timestamp, 4);
      memcpy(header + 8, &ssrc, 4);
      int length = (int)packet_list[p].size;
      if (protect((void *)(uintptr_t)job->context, header, &length) != 0) {
        job->protect_errors++;
        /* Behind its header: what cannot be encrypted never goes out in the clear. */
        memset(header + 12, 0, packet_list[p].size - 12);
      }
    }
    int error = send_all(job, bytes, run_list, run_count, packet_list, tag);
    if (error == 0) {
      job->packets += packet_count;
      job->octets += octets;
      sent += packet_count;
    } else {
      troubled++;
      if (error == EAGAIN || error == EWOULDBLOCK)
        job->would_block++;
      else
        job->send_errors++;
    }
    if ((j & 7) == 7)
      observe(seconds_now() - received_at, 8 * packet_count, bounds.buf, bound_count, counts.buf,
              total.buf);
  }
  if (job_count & 7)
    observe(seconds_now() - received_at, (job_count & 7) * packet_count, bounds.buf, bound_count,
            counts.buf, total.buf);
  result = Py_BuildValue("KK", sent, troubled);

done:
  PyBuffer_Release(&jobs);
  PyBuffer_Release(&scratch);
  PyBuffer_Release(&template);
  PyBuffer_Release(&packets);
  PyBuffer_Release(&runs);
  PyBuffer_Release(&bounds);
  PyBuffer_Release(&counts);
  PyBuffer_Release(&total);
  return result;
}

static PyMethodDef methods[] = {
    {"fan_out", fan_out, METH_VARARGS, "Send one prepared batch to every job's receiver."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_native", "The fan-out's inner loop in C.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) {
  PyObject *made = PyModule_Create(&module);
  if (made != NULL) {
    PyModule_AddIntConstant(made, "JOB_BYTES", sizeof(Job));
    PyModule_AddIntConstant(made, "PACKET_BYTES", sizeof(Packet));
    PyModule_AddIntConstant(made, "RUN_BYTES", sizeof(Run));
  }
  return made;
}
