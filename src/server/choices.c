/* SPDX-License-Identifier: Apache-2.0 */
#include "server/generation.h"

/* An answer as OpenAI's completions and chats have it: choices in an envelope, whole or
 * as the chunks of a stream, and what they cost. */

cohort_usage cohort_generation_usage(const cohort_generation *generation,
                                     const cohort_server_choice *choice) {
    cohort_usage sum = {.n_prompt = generation->n_prompt_tokens,
                        .n_completion = generation->n_completion_tokens};
    if (choice) {
        sum.n_prompt = (int64_t)choice->prompt->n_ids;
        sum.n_completion = choice->n_generated;
    }
    bool tells_cached =
        !choice && generation->server->options.enable_prompt_tokens_details;
    sum.n_cached = tells_cached ? 0 : -1;
    for (size_t i = 0; tells_cached && i < generation->n_prompts; i++)
        sum.n_cached += generation->prompts[i].n_cached;
    for (int32_t i = 0; i < generation->n_choices; i++)
        if (!choice || choice == &generation->choices[i])
            sum.n_reasoning += generation->choices[i].message.n_reasoning_tokens;
    if (!generation->kind->is_chat || !generation->server->reasoning)
        sum.n_reasoning = -1;
    return sum;
}

/* "usage":{...}; what is not told is null in a whole answer, left out of a stream's; but
 * for thoughts, of which every chunk of a chat has a word. */
static void write_usage(const cohort_usage *sum, bool is_whole, bool tells_details,
                        cohort_body *out) {
    cohort_body_printf(out,
                       "\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld,"
                       "\"completion_tokens\":%lld",
                       (long long)sum->n_prompt,
                       (long long)(sum->n_prompt + sum->n_completion),
                       (long long)sum->n_completion);
    if (sum->n_cached >= 0)
        cohort_body_printf(
            out, ",\"prompt_tokens_details\":{\"cached_tokens\":%lld%s}",
            (long long)sum->n_cached,
            is_whole ? ",\"created_cache_tokens\":null,\"multimodal_tokens\":null" : "");
    else if (is_whole)
        cohort_body_puts(out, ",\"prompt_tokens_details\":null");
    if (sum->n_reasoning >= 0)
        cohort_body_printf(out,
                           ",\"completion_tokens_details\":{\"reasoning_tokens\":%lld}",
                           (long long)sum->n_reasoning);
    else if (tells_details)
        cohort_body_puts(out, ",\"completion_tokens_details\":null");
    cohort_body_puts(out, "}");
}

static void write_head(const cohort_generation *generation, cohort_body *out) {
    const cohort_generation_kind *kind = generation->kind;
    const char *object = generation->params.is_stream ? kind->chunk_object : kind->object;
    cohort_body_puts(out, "{\"id\":");
    cohort_body_json(out, generation->id.bytes, generation->id.size);
    cohort_body_printf(out, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object,
                       (long long)generation->created_s);
    cohort_body_json_or_null(out, generation->server->options.served_names[0]);
    cohort_body_puts(out, ",\"choices\":[");
}

void cohort_choices_write_answer(cohort_generation *generation, cohort_body *out) {
    const cohort_generation_kind *kind = generation->kind;
    const cohort_usage sum = cohort_generation_usage(generation, NULL);
    write_head(generation, out);
    for (int32_t i = 0; i < generation->n_choices; i++) {
        if (i) cohort_body_puts(out, ",");
        kind->write_choice(generation, &generation->choices[i], out);
    }
    cohort_body_printf(out, "],\"service_tier\":null,\"system_fingerprint\":\"%s\",",
                       generation->server->fingerprint);
    write_usage(&sum, true, true, out);
    if (kind->write_more) kind->write_more(generation, out);
    cohort_body_puts(out, ",\"kv_transfer_params\":null,\"ec_transfer_params\":null,"
                          "\"metrics\":null}");
}

static void write_usage_chunk(cohort_generation *generation) {
    cohort_body *out = cohort_generation_open_chunk(generation);
    cohort_body_puts(out, "],");
    const cohort_usage sum = cohort_generation_usage(generation, NULL);
    write_usage(&sum, false, false, out);
    cohort_body_printf(out, ",\"system_fingerprint\":\"%s\"}\n\n",
                       generation->server->fingerprint);
}

void cohort_choices_end_stream(cohort_generation *generation) {
    cohort_body *chunk = cohort_generation_empty_chunk(generation);
    if (generation->params.include_usage) write_usage_chunk(generation);
    cohort_body_puts(chunk, "data: [DONE]\n\n");
    cohort_exchange_push(generation->exchange, chunk);
}

void cohort_choices_break_stream(cohort_generation *generation,
                                 const cohort_api_error *error) {
    cohort_body *chunk = cohort_generation_empty_chunk(generation);
    cohort_body_puts(chunk, "data: ");
    cohort_api_error_write(error, chunk);
    cohort_body_puts(chunk, "\n\ndata: [DONE]\n\n");
    cohort_exchange_push(generation->exchange, chunk);
}

/* ---- writing ----------------------------------------------------------------------- */

cohort_body *cohort_generation_open_chunk(cohort_generation *generation) {
    cohort_body *head = &generation->head,
                *chunk = cohort_generation_empty_chunk(generation);
    if (!head->size) {
        cohort_body_puts(head, "data: ");
        write_head(generation, head);
    }
    chunk->is_short = head->is_short;
    cohort_body_add(chunk, head->bytes, head->size);
    return chunk;
}

void cohort_generation_close_chunk(cohort_generation *generation,
                                   const cohort_server_choice *choice, bool is_last,
                                   const char *more) {
    cohort_body *out = &generation->server->chunk;
    cohort_body_puts(out, "]");
    if (more) cohort_body_puts(out, more);
    if (generation->params.continuous_usage) {
        const cohort_usage sum = cohort_generation_usage(generation, choice);
        cohort_body_puts(out, ",");
        write_usage(&sum, false, generation->kind->is_chat, out);
    }
    /* The fingerprint is on the last chunk that a choice has; where a chunk with the
     * usage follows, on that one. */
    if (is_last && !generation->params.include_usage)
        cohort_body_printf(out, ",\"system_fingerprint\":\"%s\"",
                           generation->server->fingerprint);
    cohort_body_puts(out, "}\n\n");
    cohort_exchange_push(generation->exchange, out);
}

void cohort_generation_write_reason(const cohort_server_choice *choice, bool lazy,
                                    bool calls, cohort_body *out) {
    const char *reason = cohort_finish_reason_name(choice->finish_reason);
    cohort_body_puts(out, "\"finish_reason\":");
    cohort_body_json_or_null(out, calls ? "tool_calls" : reason);
    if (lazy && !reason) return;
    cohort_body_puts(out, ",\"stop_reason\":");
    if (choice->stop_token_id >= 0)
        cohort_body_printf(out, "%d", choice->stop_token_id);
    else
        cohort_body_json_or_null(out, choice->stop_string);
}

void cohort_generation_write_ids(const cohort_generation *generation,
                                 const cohort_server_choice *choice, cohort_body *out) {
    const cohort_body *ids = &choice->token_ids;
    if (generation->returns_token_ids)
        cohort_body_printf(out, ",\"token_ids\":[%s]", ids->size ? ids->bytes : "");
    else
        cohort_body_puts(out, ",\"token_ids\":null");
}

void cohort_generation_write_prompt_ids(const cohort_prompt *prompt, bool is_asked,
                                        cohort_body *out) {
    cohort_body_puts(out, ",\"prompt_token_ids\":");
    if (is_asked)
        cohort_body_json_ids(out, prompt->ids, prompt->n_ids);
    else
        cohort_body_puts(out, "null");
}

void cohort_generation_write_prompt_logprobs(const cohort_prompt *prompt,
                                             cohort_body *out) {
    cohort_body_printf(out, ",\"prompt_logprobs\":%s",
                       prompt->logprobs.size ? prompt->logprobs.bytes : "null");
}
