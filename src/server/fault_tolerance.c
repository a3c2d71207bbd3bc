/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/fault_tolerance: what became of ranks that died, in the shape of SGLang's status;
 * and vLLM's instructions to pause and to go on. */
#include <string.h>

#include "server/status.h"

static const char *word_of(cohort_server *server,
                           const cohort_executor_recovery *recovery) {
    cohort_error failure;
    if (cohort_driver_failure(server->driver, &failure) < 0) return "dead";
    if (recovery->is_recovering) return "recovering";
    return cohort_driver_is_paused(server->driver) ? "paused" : "healthy";
}

void cohort_write_recovery(const cohort_executor_recovery *recovery, cohort_body *out) {
    bool has_died = recovery->n_deaths > 0;
    cohort_body_printf(out, "{\"epoch\":%llu,\"deaths\":%llu,\"recovering\":%s",
                       (unsigned long long)recovery->epoch,
                       (unsigned long long)recovery->n_deaths,
                       recovery->is_recovering ? "true" : "false");
    cohort_body_printf(out, has_died ? ",\"rank\":%d" : ",\"rank\":null", recovery->rank);
    cohort_body_puts(out, ",\"cause\":");
    cohort_body_json_or_null(out, has_died ? recovery->cause.message : NULL);
    bool is_known = has_died && !recovery->is_recovering;
    cohort_body_printf(out, ",\"kv_kept\":%s",
                       !is_known           ? "null"
                       : recovery->kv_kept ? "true"
                                           : "false");
    cohort_body_puts(out, ",\"took_ms\":");
    cohort_body_json_real(out, (double)recovery->took_ns / 1e6);
    cohort_body_puts(out, "}");
}

void cohort_serve_fault_tolerance(cohort_server *server, cohort_exchange *exchange) {
    cohort_body body = {0};
    cohort_executor *executor = cohort_engine_executor(server->engine);
    cohort_executor_recovery recovery;
    cohort_executor_get_recovery(executor, &recovery);
    cohort_body_printf(&body,
                       "{\"schema_version\":1,\"total_engines\":1,\"engines\":[{\"id\":0,"
                       "\"status\":\"%s\",\"recovery\":",
                       word_of(server, &recovery));
    cohort_write_recovery(&recovery, &body);
    cohort_body_puts(&body, ",\"ranks\":[");
    for (int32_t r = 0; r < cohort_executor_world_size(executor); r++) {
        cohort_rank_info info;
        cohort_executor_describe_rank(executor, r, &info);
        cohort_body_printf(&body, "%s{\"rank\":%d,\"pid\":%d,\"phase\":\"%s\"}",
                           r ? "," : "", r, info.pid, info.phase);
    }
    cohort_body_puts(&body, "]}]}");
    cohort_reply_json(exchange, 200, &body);
}

void cohort_serve_instruction(cohort_server *server, cohort_exchange *exchange) {
    cohort_api_request api = {0};
    cohort_api_error error = {0};
    bool fine =
        cohort_read_body(server, exchange, COHORT_SCHEMA_INSTRUCTION, &api, &error) &&
        cohort_is_alive(server, &error);
    if (fine) cohort_driver_pause(server->driver, !strcmp(api.instruction.text, "pause"));
    cohort_release_body(server, &api);
    cohort_api_request_deinit(&api);
    if (fine)
        cohort_serve_fault_tolerance(server, exchange);
    else
        cohort_reply_error(exchange, &error);
}
