"""The dashboards. `make deploy-render` writes them to dashboards/, for the compose file and for the chart.

    overview    the first minute: is it fresh, what does it save, what is slow
    queries     how statements are answered, and why not from memory
    freshness   the change feed, the lease, what was invalidated, what was verified
    fleet       instance by instance, memory, the shared tier, and the programs around it
"""

import json
import pathlib

from panels import BAD, GOOD, bars, dashboard, heatmap, row, series, stat, table, text, timeline

FOLDER = pathlib.Path(__file__).parent / "dashboards"
BY_OUTCOME = [('sum by (outcome, tier) (rate(larder_queries_total{OURS, outcome!="error"}[$__rate_interval]))', "{{outcome}} {{tier}}")]
HIT_RATIO = """sum(rate(larder_queries_total{OURS, outcome=~"hit|coalesced"}[$__rate_interval]))
    / sum(rate(larder_queries_total{OURS, outcome!="error"}[$__rate_interval]))"""
YES_NO = ((1, "yes", GOOD), (0, "no", BAD))


def quantile(share, which):
    return f"histogram_quantile({share}, sum by (le) (rate(larder_query_duration_seconds_bucket{{OURS, {which}}}[$__rate_interval])))"


def quantiles(which):
    return [(quantile(share, which), name) for share, name in ((0.5, "median"), (0.9, "p90"), (0.99, "p99"))]


def overview():
    hits, origin = 'outcome="hit", tier="l1"', 'tier="origin"'
    return dashboard("overview", "The first minute: is it fresh, what does it save, what is slow.", [
        stat("Fresh", "Whether every instance can prove at present that what it holds is fresh. Without proof nothing comes from memory.",
             "min(larder_lease_remaining_seconds{OURS} > bool 0)", mappings=YES_NO),
        stat("From memory", "Share of all statements that the origin did not see.", HIT_RATIO, "percentunit", decimals=1),
        stat("Statements", "Statements per second, however they were answered.",
             'sum(rate(larder_queries_total{OURS, outcome!="error"}[$__rate_interval]))', "ops"),
        stat("Origin time saved", "Seconds of PostgreSQL's time saved in each second: so many connections' worth of work.",
             "sum(rate(larder_origin_seconds_saved_total{OURS}[$__rate_interval]))", "s", decimals=2),
        stat("p99 of hits", "99 of 100 answers from memory took no longer.", quantile(0.99, hits), "s", ((None, GOOD), (0.01, "orange"), (0.1, BAD))),
        stat("p99 of the rest", "99 of 100 answers of the origin took no longer, as clients saw it.", quantile(0.99, origin), "s"),
        stat("Instances", "Instances that Prometheus reaches.", "count(larder_build_info{OURS})", width=4),
        stat("Ready", "Whether every instance takes traffic: /readyz.", "min(larder_ready{OURS})", mappings=YES_NO),
        stat("Origin reachable", "Whether every instance reaches PostgreSQL.", "min(larder_origin_reachable{OURS})", mappings=YES_NO),
        stat("Serving", "Whether every instance is in mode serve; an operator can switch it.", 'min(larder_mode{OURS, mode="serve"})', mappings=YES_NO),
        stat("Clients", "Clients connected.", "sum(larder_clients{OURS})"),
        stat("Alerts", "Alerts of Larder that fire. Each links to its runbook.",
             'count(ALERTS{alertname=~"Larder.*", alertstate="firing"}) or vector(0)', steps=((None, GOOD), (1, BAD))),
        row("What it does"),
        series("Statements by outcome", "Green did not reach the origin; purple is not cacheable, and the reasons are below.", BY_OUTCOME, "ops", stacked=True),
        series("Share from memory", "Hits, and waits for another client's identical query, of all statements.", [(HIT_RATIO, "from memory")], "percentunit", max=1, min=0),
        series("Hits: how long", "From the arrival of a statement to its answer.", quantiles(hits), "s"),
        series("Origin: how long", "The same for what the origin answered.", quantiles(origin), "s"),
        series("Time at the origin", "What clients waited for the origin, and what the hits would have cost it: seconds in each second.", [
            ('sum(rate(larder_query_duration_seconds_sum{OURS, tier="origin"}[$__rate_interval]))', "spent"),
            ("sum(rate(larder_origin_seconds_saved_total{OURS}[$__rate_interval]))", "saved"),
        ], "s"),
        series("Not from memory: what costs most", "Time that clients waited for statements that are not cacheable, by reason. Misses are on the dashboard Queries.",
               [("topk(6, sum by (reason) (rate(larder_bypass_seconds_total{OURS}[$__rate_interval])) > 0)", "{{reason}}")], "s", stacked=True),
        row("Is it well"),
        series("Feed lag", "How old the newest proof is. Above max_lag (1 s unless configured) nothing comes from memory.", [("larder_feed_lag_seconds{OURS}", "{{pod}}")], "s", 8),
        series("Memory", "What answers take of what they may.", [
            ("sum(larder_tier_bytes{OURS})", "used"), ("sum(larder_tier_max_bytes{OURS})", "limit"),
        ], "bytes", 8),
        series("Clients by state", "active waits for the origin; waiting for another client's identical query or the shared tier. Hits make nobody active.", [("sum by (state) (larder_clients{OURS})", "{{state}}")], "short", 8, stacked=True),
    ])


def queries():
    return dashboard("queries", "How statements are answered, and why not from memory.", [
        text("**Which statement?** Prometheus keeps no series for each statement: there would be no end of them. Look at the page of an instance "
             "(its admin address, port 6434), `SHOW QUERIES` and `SHOW REASONS` on the admin database, or `larder top`. "
             "`EXPLAIN CACHE <sql>` says why one is not cached."),
        series("Statements by outcome", "hit l1: from this process; hit l2: from the shared tier; coalesced: after waiting for the same query of another client.", BY_OUTCOME, "ops", stacked=True),
        series("Share of each outcome", "Of all statements.",
               [('sum by (outcome) (rate(larder_queries_total{OURS, outcome!="error"}[$__rate_interval])) / on () group_left () '
                 'sum(rate(larder_queries_total{OURS, outcome!="error"}[$__rate_interval]))', "{{outcome}}")], "percentunit", stacked=True, max=1),
        row("Why not from memory"),
        bars("Not cacheable: time", "Time that clients waited for statements that are not cacheable, in the time shown. docs/hazards.md explains each reason.",
             "sort_desc(sum by (reason) (increase(larder_bypass_seconds_total{OURS}[$__range])) > 0)", "{{reason}}", "s"),
        bars("Not cacheable: statements", "How many there were.", "sort_desc(sum by (reason) (increase(larder_bypass_total{OURS}[$__range])) > 0)", "{{reason}}"),
        series("Misses by reason", "Cacheable, and answered by the origin. absent: never asked or forgotten; invalid: a commit ended the answer; write_in_flight: a write is on its way; no_lease: nothing is proven.",
               [("sum by (reason) (rate(larder_miss_total{OURS}[$__rate_interval]))", "{{reason}}")], "ops", stacked=True),
        series("Answers not kept", "Fetched, and not kept. changed: a commit came in between; epoch: everything died in between; abandoned: the client left, or the origin answered with an error.",
               [("sum by (reason) (rate(larder_fill_discarded_total{OURS}[$__rate_interval]))", "{{reason}}")], "ops", stacked=True),
        row("How long"),
        heatmap("Hits", "Answers from memory, by how long they took.",
                'sum by (le) (increase(larder_query_duration_seconds_bucket{OURS, outcome="hit", tier="l1"}[$__rate_interval]))'),
        heatmap("Misses", "Answers of the origin that may be kept.",
                'sum by (le) (increase(larder_query_duration_seconds_bucket{OURS, outcome="miss"}[$__rate_interval]))'),
        heatmap("Not cacheable", "Answers of the origin that are not kept; writes are among them.",
                'sum by (le) (increase(larder_query_duration_seconds_bucket{OURS, outcome="bypass"}[$__rate_interval]))'),
        series("Median by outcome", "Mind the scale: it is logarithmic.", [
            ("histogram_quantile(0.5, sum by (le, outcome, tier) (rate(larder_query_duration_seconds_bucket{OURS}[$__rate_interval])))", "{{outcome}} {{tier}}"),
        ], "s", height=9, log=True),
        series("Errors of the origin", "Errors that PostgreSQL reported to clients: theirs, not Larder's.",
               [('sum(rate(larder_queries_total{OURS, outcome="error"}[$__rate_interval]))', "error")], "ops"),
        series("Origin time saved", "Seconds in each second that hits would have cost the origin.",
               [("sum by (pod) (rate(larder_origin_seconds_saved_total{OURS}[$__rate_interval]))", "{{pod}}")], "s", stacked=True),
    ])


def freshness():
    return dashboard("freshness", "The change feed, the lease, what was invalidated, what was verified.", [
        stat("Feed connected", "Whether every instance gets changes.", "min(larder_feed_connected{OURS})", mappings=YES_NO),
        stat("Fresh", "Whether every instance may answer from memory now.", "min(larder_lease_remaining_seconds{OURS} > bool 0)", mappings=YES_NO),
        stat("Largest lag", "How old the oldest instance's newest proof is.", "max(larder_feed_lag_seconds{OURS})", "s"),
        stat("Furthest behind", "Bytes of log that the instance furthest behind has not seen.", "max(larder_feed_lag_bytes{OURS})", "bytes"),
        stat("Gaps", "Times that the stream was lost in the time shown, and everything kept with it.", "sum(increase(larder_feed_gaps_total{OURS}[$__range]))", steps=((None, GOOD), (1, "orange")), decimals=0),
        stat("Mismatches", "Verified answers that no commit explains, in the time shown. There must be none.", "sum(increase(larder_verify_mismatches_total{OURS}[$__range]))", steps=((None, GOOD), (0.5, BAD)), decimals=0),
        timeline("Feed", "When changes arrived.", "larder_feed_connected{OURS}", "{{pod}}", ((1, "connected", GOOD), (0, "lost", BAD))),
        timeline("Lease", "When answers could come from memory.", "larder_lease_remaining_seconds{OURS} > bool 0", "{{pod}}", ((1, "fresh", GOOD), (0, "not proven", BAD))),
        series("Lag", "Time since the moment up to which everything committed has been folded in. Hits stop at max_lag.", [("larder_feed_lag_seconds{OURS}", "{{pod}}")], "s"),
        series("Lease", "How long hits go on if nothing more is heard. It falls from max_lag and is renewed by every proof.", [("larder_lease_remaining_seconds{OURS}", "{{pod}}")], "s"),
        series("Behind", "Log written by the origin and not folded in yet.", [("larder_feed_lag_bytes{OURS}", "{{pod}}")], "bytes"),
        series("Statements without proof", "Answered by the origin because nothing was proven, or not in time for level linearizable.", [
            ('sum(rate(larder_miss_total{OURS, reason="no_lease"}[$__rate_interval]))', "misses"),
            ('sum(rate(larder_bypass_total{OURS, reason=~"no_lease|no_catalog|barrier_timeout"}[$__rate_interval]))', "not cacheable"),
        ], "ops"),
        row("Changes"),
        series("Committed changes", "Rows, TRUNCATE commands, and transactions that may have changed the catalog. Every instance sees all of them: this is the largest.",
               [("max by (kind) (rate(larder_changes_total{OURS}[$__rate_interval]))", "{{kind}}")], "ops"),
        series("Invalidations", "relation: a commit changed a relation; all: everything kept died (DDL, a lost stream). The largest of the instances.",
               [("max by (scope) (rate(larder_invalidations_total{OURS}[$__rate_interval]))", "{{scope}}")], "ops"),
        series("What changes cost", "invalid: the answer had ended; write_in_flight: a write by way of Larder has not come back in the log yet; changed: a commit came while the answer was fetched.", [
            ('sum by (reason) (rate(larder_miss_total{OURS, reason=~"invalid|write_in_flight"}[$__rate_interval]))', "{{reason}}"),
            ('sum by (reason) (rate(larder_fill_discarded_total{OURS, reason="changed"}[$__rate_interval]))', "{{reason}}"),
        ], "ops"),
        series("Verified answers", "Answers from memory that were compared with the origin's, and those that no commit explains.", [
            ("sum(rate(larder_verify_checks_total{OURS}[$__rate_interval]))", "checks"),
            ("sum(rate(larder_verify_mismatches_total{OURS}[$__rate_interval]))", "mismatches"),
        ], "ops"),
        series("Differences by cause", "changed: the answer's relations had changed by then; varies: PostgreSQL itself may answer in several ways; unjudged: nothing was proven in time.",
               [("sum by (cause) (rate(larder_verify_differences_total{OURS}[$__rate_interval]))", "{{cause}}")], "ops"),
    ])


def fleet():
    by_pod = "sum by (namespace, pod, instance)"
    return dashboard("fleet", "Instance by instance, memory, the shared tier, and the programs around it.", [
        table("Instances", "One row for each.", [
            ("", "max by (namespace, pod, instance, version, revision) (larder_build_info{OURS})", "short"),
            ("Up for", "time() - max by (namespace, pod, instance) (process_start_time_seconds{OURS})", "s"),
            ("Statements", by_pod + ' (rate(larder_queries_total{OURS, outcome!="error"}[$__rate_interval]))', "ops"),
            ("From memory", by_pod + ' (rate(larder_queries_total{OURS, outcome=~"hit|coalesced"}[$__rate_interval])) / '
             + by_pod + ' (rate(larder_queries_total{OURS, outcome!="error"}[$__rate_interval]))', "percentunit"),
            ("Lag", by_pod + " (larder_feed_lag_seconds{OURS})", "s"),
            ("Clients", by_pod + " (larder_clients{OURS})", "short"),
            ("Answers", by_pod + " (larder_tier_bytes{OURS})", "bytes"),
            ("Process", by_pod + " (process_resident_memory_bytes{OURS})", "bytes"),
            ("Processor", by_pod + " (rate(process_cpu_seconds_total{OURS}[$__rate_interval]))", "percentunit"),
        ]),
        series("Statements", "Per second, by instance. Connections stay where they are, so the load may be uneven.",
               [('sum by (pod) (rate(larder_queries_total{OURS, outcome!="error"}[$__rate_interval]))', "{{pod}}")], "ops", stacked=True),
        series("Share from memory", "By instance. One that has just started is cold, unless it shares a tier.",
               [('sum by (pod) (rate(larder_queries_total{OURS, outcome=~"hit|coalesced"}[$__rate_interval])) / '
                 'sum by (pod) (rate(larder_queries_total{OURS, outcome!="error"}[$__rate_interval]))', "{{pod}}")], "percentunit", max=1),
        series("Clients", "By instance, and the limit of one.", [("sum by (pod) (larder_clients{OURS})", "{{pod}}"), ("min(larder_clients_max{OURS})", "limit")]),
        series("Connections to the origin", "One for each client, by what it is doing.", [("sum by (state) (larder_origin_connections{OURS})", "{{state}}")], stacked=True),
        row("Processes"),
        series("Processor", "Cores in use.", [("sum by (pod) (rate(process_cpu_seconds_total{OURS}[$__rate_interval]))", "{{pod}}")], "short", 8),
        series("Memory", "Resident, by instance.", [("sum by (pod) (process_resident_memory_bytes{OURS})", "{{pod}}")], "bytes", 8),
        series("Files", "Open files of what is allowed: two for each client.", [("max by (pod) (process_open_fds{OURS} / process_max_fds{OURS})", "{{pod}}")], "percentunit", 8),
        row("Memory for answers"),
        series("Answers", "How many are kept.", [("sum by (pod) (larder_tier_entries{OURS})", "{{pod}}")], "short", 8),
        series("Bytes", "What they take of [cache] memory.", [("max by (pod) (larder_tier_bytes{OURS} / larder_tier_max_bytes{OURS})", "{{pod}}")], "percentunit", 8, max=1),
        series("Removed", "size: made room; invalidated, expired: found to be so when asked for.",
               [("sum by (reason) (rate(larder_evictions_total{OURS}[$__rate_interval]))", "{{reason}}")], "ops", 8, stacked=True),
        row("The shared tier (empty without [valkey] url)"),
        timeline("Usable", "Whether an instance may use what others stored: it knows what changed before it came.", 'larder_tier_sharing{OURS}', "{{pod}}", ((1, "sharing", GOOD), (0, "waiting", "orange")), 8, 8),
        timeline("Breaker", "Open: Valkey is not asked, because it does not answer.", "larder_valkey_breaker_open{OURS}", "{{pod}}", ((0, "closed", GOOD), (1, "open", BAD)), 8, 8),
        series("Operations", "What was asked of Valkey, by what became of it.", [("sum by (op, result) (rate(larder_valkey_operations_total{OURS}[$__rate_interval])) > 0", "{{op}} {{result}}")], "ops", 8),
        series("How long Valkey takes", "99 of 100 took no longer.", [("histogram_quantile(0.99, sum by (op, le) (rate(larder_valkey_duration_seconds_bucket{OURS}[$__rate_interval])))", "{{op}}")], "s", 8),
        series("Answers of others", "Statements answered with what another instance stored.", [('sum by (pod) (rate(larder_queries_total{OURS, tier="l2"}[$__rate_interval]))', "{{pod}}")], "ops", 8),
        series("Not usable", "Found in the tier, and of no use, by reason.", [("sum by (reason) (rate(larder_tier_refused_total{OURS}[$__rate_interval]))", "{{reason}}")], "ops", 8),
        row("Around Larder (postgres_exporter, redis_exporter)"),
        series("PostgreSQL: transactions", "Committed per second, by database: what is left for the origin to do.", [('sum by (datname) (rate(pg_stat_database_xact_commit{THEIRS, datname!~"template.*|"}[$__rate_interval]))', "{{datname}}")], "ops", 8),
        series("PostgreSQL: sessions", "By state.", [("sum by (state) (pg_stat_activity_count{THEIRS})", "{{state}}")], "short", 8, stacked=True),
        series("Valkey: memory", "Used, and the limit if there is one.", [("sum(redis_memory_used_bytes{THEIRS})", "used"), ("sum(redis_memory_max_bytes{THEIRS})", "limit")], "bytes", 8),
        series("Valkey: removed", "Keys per second that made room, or whose time was over.", [
            ("sum(rate(redis_evicted_keys_total{THEIRS}[$__rate_interval]))", "evicted"), ("sum(rate(redis_expired_keys_total{THEIRS}[$__rate_interval]))", "expired"),
        ], "ops", 8),
        series("Valkey: commands", "Per second.", [("sum(rate(redis_commands_processed_total{THEIRS}[$__rate_interval]))", "commands")], "ops", 8),
        series("Valkey: clients", "Two for each thread of each Larder.", [("sum(redis_connected_clients{THEIRS})", "clients")], "short", 8),
    ])


def files():
    """Path -> what must be in it."""
    made = (overview(), queries(), freshness(), fleet())
    return {FOLDER / f"{one['uid'].removeprefix('larder-')}.json": json.dumps(one, indent=2) + "\n" for one in made}


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content)
