/* The physical limit of forwarding on this machine: per receiver and frame, copy the packets,
 * write their headers, seal each with AES-128-GCM (OpenSSL EVP, what libsrtp uses), and send the
 * run with one GSO sendmsg on a connected UDP socket. Nothing else: no RTCP, no ICE, no Python.
 *
 * usage: climit RECEIVERS FRAMES PACKETS_PER_FRAME PAYLOAD_BYTES PORT...
 * The PORTs (127.0.0.1) are sockets that somebody reads; receivers are spread over them.
 * Prints "cpu_us_per_packet packets".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
enum { HEADER = 12, TAG = 16 };

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
  if (argc < 6) return 2;
  int receivers = atoi(argv[1]), frames = atoi(argv[2]), count = atoi(argv[3]);
  int payload = atoi(argv[4]), ports = argc - 5, size = HEADER + payload + TAG;
  int *fds = malloc(sizeof(int) * receivers);
  EVP_CIPHER_CTX **contexts = malloc(sizeof(*contexts) * receivers);
  unsigned char key[16] = {1}, *frame = malloc(size * count), *scratch = malloc(size * count);
  for (int i = 0; i < size * count; i++) frame[i] = rand();
  for (int i = 0; i < receivers; i++) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[5 + i % ports]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (connect(fds[i], (struct sockaddr *)&to, sizeof to)) return 1;
    contexts[i] = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(contexts[i], EVP_aes_128_gcm(), NULL, key, NULL);
  }
  uint16_t seq = 0;
  long sent = 0;
  double start = cpu_seconds();
  for (int f = 0; f < frames; f++) {
    for (int r = 0; r < receivers; r++) {
      memcpy(scratch, frame, (size_t)size * count);
      for (int p = 0; p < count; p++) {
        unsigned char *packet = scratch + (size_t)size * p, iv[12] = {0};
        uint16_t number = htons((uint16_t)(seq + p));
        memcpy(packet + 2, &number, 2);
        memcpy(packet + 8, &r, 4);
        memcpy(iv + 2, packet + 8, 4);
        memcpy(iv + 10, packet + 2, 2);
        int n;
        EVP_EncryptInit_ex(contexts[r], NULL, NULL, NULL, iv);
        EVP_EncryptUpdate(contexts[r], NULL, &n, packet, HEADER);
        EVP_EncryptUpdate(contexts[r], packet + HEADER, &n, packet + HEADER, payload);
        EVP_EncryptFinal_ex(contexts[r], packet + HEADER + payload, &n);
        EVP_CIPHER_CTX_ctrl(contexts[r], EVP_CTRL_GCM_GET_TAG, TAG, packet + HEADER + payload);
      }
      char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
      struct iovec vector = {scratch, (size_t)size * count};
      struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
      if (count > 1) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        uint16_t segment = size;
        memcpy(CMSG_DATA(c), &segment, sizeof segment);
      }
      if (sendmsg(fds[r], &message, 0) >= 0) sent += count;
    }
    seq += count;
  }
  printf("%.4f %ld\n", (cpu_seconds() - start) * 1e6 / ((double)frames * receivers * count), sent);
  return 0;
}
