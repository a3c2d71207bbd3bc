/* SPDX-License-Identifier: Apache-2.0 */
/* What the browser of another site's page is told. */
#include "http/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "http_fixture.h"

static const char *const origins[] = {"https://a.example", NULL};
static const char *const methods[] = {"GET", "POST", NULL};
static const char *const headers[] = {"X-Own", "Accept", NULL};
static const cohort_cors cors = {origins, methods, headers, true};

/* One answer to a page, whose head and body have all of what is wanted. */
static void assert_page_hears(http_fixture *self, int fd, const char *request, int status,
                              const char *const wanted[], const char *unwanted) {
    pthread_mutex_lock(&self->lock);
    const int next = self->n_requests + 1;
    pthread_mutex_unlock(&self->lock);
    http_say(fd, request);
    cohort_exchange *held = http_take_held(self, next);
    if (!cohort_exchange_answer_origin(held, &cors)) http_reply(held, 200, "not asked");
    http_answer got = http_hear(fd);
    assert_int_equal(got.status, status);
    cohort_body_add(&got.head, got.body.bytes, got.body.size);
    for (size_t i = 0; wanted[i]; i++)
        if (!strstr(got.head.bytes, wanted[i]))
            fail_msg("%s is not in: %s", wanted[i], got.head.bytes);
    if (unwanted) assert_null(strstr(got.head.bytes, unwanted));
    http_answer_deinit(&got);
}

#define ASK(origin, more) \
    "OPTIONS /hold HTTP/1.1\r\nHost: a\r\nOrigin: " origin "\r\n" more "\r\n"
#define METHOD(name)   "Access-Control-Request-Method: " name "\r\n"
#define HEADERS(names) "Access-Control-Request-Headers: " names "\r\n"

static void pages_are_told_what_they_may_ask(void **state) {
    http_fixture *self = *state;
    int fd = http_dial(self);
    const char *const allowed[] = {
        "\r\nAccess-Control-Allow-Origin: https://a.example\r\n",
        "\r\nAccess-Control-Allow-Methods: GET, POST\r\n",
        "\r\nAccess-Control-Allow-Headers: Accept, Accept-Language, Content-Language, "
        "Content-Type, X-Own\r\n",
        "\r\nAccess-Control-Allow-Credentials: true\r\n",
        "\r\nVary: Origin\r\n",
        "\r\n\r\nOK",
        NULL};
    assert_page_hears(self, fd, ASK("https://a.example", METHOD("POST")), 200, allowed,
                      NULL);
    assert_page_hears(
        self, fd,
        ASK("https://a.example", METHOD("GET") HEADERS("x-own ,\tcontent-type")), 200,
        allowed, NULL);
    const char *const all[] = {"\r\n\r\nDisallowed CORS origin, method, headers", NULL};
    assert_page_hears(self, fd,
                      ASK("https://b.example", METHOD("PUT") HEADERS("x-own, x-b")), 400,
                      all, "Allow-Origin");
    const char *const one[] = {"\r\n\r\nDisallowed CORS headers", NULL};
    assert_page_hears(self, fd, ASK("https://a.example", METHOD("GET") HEADERS("x-own,")),
                      400, one, NULL);
    /* Not a question before the question. */
    const char *const plain[] = {"\r\nAccess-Control-Allow-Origin: https://a.example\r\n",
                                 "\r\n\r\nnot asked", NULL};
    assert_page_hears(self, fd, ASK("https://a.example", ""), 200, plain, NULL);
    const char *const none[] = {"\r\n\r\nnot asked", NULL};
    assert_page_hears(self, fd, ASK("https://b.example", ""), 200, none, "Allow-Origin");
    assert_page_hears(self, fd, "OPTIONS /hold HTTP/1.1\r\nHost: a\r\n\r\n", 200, none,
                      "Access-Control");
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, http_set_up, http_tear_down)
        CASE(pages_are_told_what_they_may_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
