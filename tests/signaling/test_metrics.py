"""The Prometheus exposition of the real server."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.signaling.conftest import Client, eventually

CONTRACT = {
    "tongke_receivers": {"lesson", "stream"},
    "tongke_receiver_cap": {"lesson", "stream"},
    "tongke_waiting": {"lesson", "stream"},
    "tongke_rtp_packets_received_total": {"worker"},
    "tongke_rtp_packets_forwarded_total": {"worker"},
    "tongke_rtp_bytes_forwarded_total": {"worker"},
    "tongke_worker_cpu_seconds_total": {"worker"},
    "tongke_nacks_total": set(),
    "tongke_retransmissions_total": set(),
    "tongke_keyframe_requests_total": set(),
    "tongke_join_seconds_bucket": {"le"},
    "tongke_join_seconds_count": set(),
    "tongke_forward_delay_seconds_bucket": {"le"},
    "tongke_forward_delay_seconds_sum": set(),
    "tongke_admission_refused_total": {"reason"},
}

Samples = dict[str, list[tuple[dict[str, str], float]]]


async def scrape(client: Client) -> Samples:
    status, body = await client.call("GET", "/metrics")
    assert status == 200
    samples: Samples = {}
    for family in text_string_to_metric_families(body.decode()):
        assert family.documentation, family.name
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    [found] = [number for have, number in samples[name] if have.items() >= labels.items()]
    return found


async def test_every_name_of_the_contract_is_there_with_its_labels(client: Client) -> None:
    lesson = await client.lesson(streams={"camera": {"cap": 1}})
    token = client.server.issue_token("observer", lesson=lesson["id"])
    await client.whep(lesson, token)
    await client.whep(lesson, token)
    samples = await scrape(client)
    for name, labels in CONTRACT.items():
        assert name in samples, name
        assert set(samples[name][0][0]) == labels, name
    of_lesson = {"lesson": lesson["id"], "stream": "camera"}
    assert value(samples, "tongke_receivers", **of_lesson) == 1
    assert value(samples, "tongke_receiver_cap", **of_lesson) == 1
    assert value(samples, "tongke_waiting", **of_lesson) == 1
    assert value(samples, "tongke_admission_refused_total", reason="receiver-cap-reached") == 1
    assert value(samples, "tongke_nacks_total") == 7


async def test_join_times_are_counted_in_cumulative_buckets(client: Client) -> None:
    lesson = await client.lesson()
    await client.whep(lesson, client.server.issue_token("observer", lesson=lesson["id"]))

    async def counted() -> bool:
        return value(await scrape(client), "tongke_join_seconds_count") == 1

    await eventually(counted)
    samples = await scrape(client)
    assert value(samples, "tongke_join_seconds_sum") == 0.2
    # A histogram's bound is inclusive: 0.2 s is at most 0.2.
    assert value(samples, "tongke_join_seconds_bucket", le="0.1") == 0
    assert value(samples, "tongke_join_seconds_bucket", le="0.2") == 1
    assert value(samples, "tongke_join_seconds_bucket", le="+Inf") == 1


async def test_delays_are_those_of_the_workers(client: Client) -> None:
    samples = await scrape(client)
    assert value(samples, "tongke_forward_delay_seconds_bucket", le="0.001") == 5
    assert value(samples, "tongke_forward_delay_seconds_bucket", le="0.01") == 7
    assert value(samples, "tongke_forward_delay_seconds_count") == 8


async def test_counters_never_go_down_when_a_worker_dies(client: Client) -> None:
    worker = client.server.context.supervisor.workers[0]
    for _ in range(5):
        before = await scrape(client)
    assert worker.process is not None
    worker.process.kill()

    async def restarted() -> bool:
        return worker.restarts == 1 and worker.ready.is_set()

    await eventually(restarted)
    after = await scrape(client)
    assert value(after, "tongke_worker_restarts_total", worker="0") == 1
    for name in before:
        if name.endswith(("_total", "_bucket", "_count", "_sum")):
            for labels, number in before[name]:
                assert value(after, name, **labels) >= number, name
    forwarded = "tongke_rtp_packets_forwarded_total"
    assert value(after, forwarded, worker="0") > value(before, forwarded, worker="0")
