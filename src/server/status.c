/* SPDX-License-Identifier: Apache-2.0 */
/* The status page at /, and what it shows at /cohort/status.  The page is one file, built
 * into the command; whoever has the key sees the cohort. */
#include "server/status.h"

#include <string.h>
#include <unistd.h>

#include "cohort/clock.h"

extern const unsigned char cohort_page_html[];
extern const size_t cohort_page_html_bytes;

void cohort_serve_page(cohort_server *server, cohort_exchange *exchange) {
    cohort_body body = {0};
    (void)server;
    cohort_body_add(&body, cohort_page_html, cohort_page_html_bytes);
    cohort_exchange_add_header(exchange, "Content-Security-Policy",
                               "default-src 'none'; style-src 'unsafe-inline'; "
                               "script-src 'unsafe-inline'; connect-src 'self'; "
                               "base-uri 'none'; form-action 'none'; "
                               "frame-ancestors 'none'");
    cohort_exchange_add_header(exchange, "X-Content-Type-Options", "nosniff");
    cohort_exchange_add_header(exchange, "Cache-Control", "no-cache");
    cohort_exchange_reply(exchange, 200, "text/html; charset=utf-8", &body);
    cohort_exchange_release(exchange);
}

static void put_text(cohort_body *out, const char *name, const char *text) {
    cohort_body_printf(out, ",\"%s\":", name);
    cohort_body_json_or_null(out, text);
}

static void put_count(cohort_body *out, const char *name, int64_t value) {
    cohort_body_printf(out, ",\"%s\":%lld", name, (long long)value);
}

/* Since a moment on the monotonic clock, which ranks of this host share. */
static double ms_since(int64_t then_ns) {
    return then_ns ? (double)(cohort_clock_ns() - then_ns) / 1e6 : -1;
}

static void put_rank(cohort_body *out, const cohort_executor *executor, const char *host,
                     int32_t r) {
    cohort_rank_info info;
    cohort_rank_work work;
    cohort_executor_describe_rank(executor, r, &info);
    cohort_executor_describe_work(executor, r, &work);
    cohort_body_printf(out, "%s{\"rank\":%d,\"tp_rank\":%d,\"pp_rank\":%d,\"pid\":%d",
                       r ? "," : "", r, info.tp_rank, info.pp_rank, info.pid);
    put_text(out, "host", *info.address ? info.address : host);
    put_text(out, "backend", info.backend);
    put_text(out, "transport", info.transport);
    put_text(out, "phase", info.phase);
    put_count(out, "call", (int64_t)info.call);
    put_count(out, "steps", (int64_t)work.steps);
    put_count(out, "tokens", (int64_t)work.tokens);
    put_count(out, "errors", (int64_t)work.errors);
    put_count(out, "waits_for", work.waits_for);
    cohort_body_puts(out, ",\"last_step_ms\":");
    cohort_body_json_real(out, ms_since(work.phase_ns));
    cohort_body_puts(out, ",\"heartbeat_ms\":");
    cohort_body_json_real(out, ms_since(work.heartbeat_ns));
    cohort_body_puts(out, "}");
}

static void put_engine(cohort_body *out, const cohort_server *server) {
    cohort_metrics_totals totals;
    const cohort_engine_info *info = &server->info;
    cohort_metrics_get_totals(server->metrics, &totals);
    const cohort_engine_stats *stats = &totals.stats;
    put_count(out, "running", stats->n_running);
    put_count(out, "waiting", stats->n_waiting);
    put_count(out, "steps", (int64_t)stats->n_steps);
    put_count(out, "preemptions", (int64_t)stats->n_preemptions);
    put_count(out, "prompt_tokens", (int64_t)totals.n_prompt_tokens);
    put_count(out, "generation_tokens", (int64_t)totals.n_generated_tokens);
    cohort_body_printf(out, ",\"kv\":{\"num_blocks\":%lld,\"free_blocks\":%lld",
                       (long long)info->num_blocks, (long long)stats->n_free_blocks);
    put_count(out, "block_size", info->block_size);
    put_count(out, "bytes", info->num_blocks * info->kv_block_bytes);
    cohort_body_printf(out, "},\"prefix_cache\":{\"queries\":%llu,\"hits\":%llu}",
                       (unsigned long long)stats->n_cache_queries,
                       (unsigned long long)stats->n_cache_hits);
}

void cohort_serve_status(cohort_server *server, cohort_exchange *exchange) {
    cohort_body body = {0}, *out = &body;
    cohort_error failure;
    cohort_executor_recovery recovery;
    char host[256] = "";
    cohort_executor *executor = cohort_engine_executor(server->engine);
    bool has_failed = cohort_driver_failure(server->driver, &failure) < 0;
    bool is_draining = cohort_driver_is_draining(server->driver);
    gethostname(host, sizeof host - 1);
    cohort_body_puts(out, "{\"model\":");
    cohort_body_json_or_null(out, server->options.served_names[0]);
    put_text(out, "version", server->options.version);
    cohort_executor_get_recovery(executor, &recovery);
    put_text(out, "state",
             has_failed                                ? "failed"
             : is_draining                             ? "draining"
             : recovery.is_recovering                  ? "recovering"
             : cohort_driver_is_paused(server->driver) ? "paused"
                                                       : "ok");
    put_text(out, "failure", has_failed ? failure.message : NULL);
    put_text(out, "architecture", server->info.architecture);
    put_text(out, "isa", server->info.isa);
    put_count(out, "max_model_len", server->info.max_model_len);
    cohort_body_printf(out, ",\"can_chat\":%s",
                       server->chat && cohort_chat_has_template(server->chat) ? "true"
                                                                              : "false");
    cohort_body_puts(out, ",\"now_s\":");
    cohort_body_json_real(out, (double)cohort_clock_ns() / 1e9);
    put_engine(out, server);
    cohort_body_puts(out, ",\"recovery\":");
    cohort_write_recovery(&recovery, out);
    int32_t n = cohort_executor_world_size(executor), tp = 1;
    for (int32_t r = 0; r < n; r++) {
        cohort_rank_info info;
        cohort_executor_describe_rank(executor, r, &info);
        if (info.tp_rank >= tp) tp = info.tp_rank + 1;
    }
    put_count(out, "tp", tp);
    put_count(out, "pp", n / tp);
    cohort_body_puts(out, ",\"ranks\":[");
    for (int32_t r = 0; r < n; r++)
        put_rank(out, executor, host, r);
    cohort_body_puts(out, "]}");
    cohort_reply_json(exchange, 200, &body);
}
