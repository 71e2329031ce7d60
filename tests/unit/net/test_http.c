/*
 * test_http.c - one exchange at a time against a scripted server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loopback.h"

#include "walagent/base/thread.h"
#include "walagent/net/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fixture {
    loopback *server;
    wa_http *http;
    char url[64];
    wa_http_response response;
    wa_error err;
} fixture;

static int
begin(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    f->server = loopback_start();
    (void)snprintf(f->url, sizeof f->url, "http://127.0.0.1:%d/path", loopback_port(f->server));
    wa_http_options options = {.user_agent = "test", .no_proxy = true};
    assert_int_equal(wa_http_new(&options, &f->http, &f->err), WA_OK);
    *state = f;
    return 0;
}

static int
end(void **state)
{
    fixture *f = *state;
    wa_http_response_done(&f->response);
    wa_http_free(f->http);
    loopback_stop(f->server);
    free(f);
    return 0;
}

static wa_status
perform(fixture *f, wa_http_request *request)
{
    request->url = f->url;
    if (request->method == NULL)
        request->method = "GET";
    wa_http_response_done(&f->response);
    return wa_http_perform(f->http, request, &f->response, &f->err);
}

static void
answer_has_status_headers_and_body(void **state)
{
    fixture *f = *state;
    loopback_reply(f->server, 207, "X-Some-Thing:  with spaces  \r\nEmpty:\r\n", "body");
    assert_int_equal(perform(f, &(wa_http_request){0}), WA_OK);
    assert_int_equal(f->response.status, 207);
    assert_int_equal(f->response.sends, 1);
    assert_string_equal(wa_http_header(&f->response, "x-some-thing"), "with spaces");
    assert_string_equal(wa_http_header(&f->response, "empty"), "");
    assert_null(wa_http_header(&f->response, "x-some"));
    assert_string_equal(wa_buf_str(&f->response.body), "body");
}

static void
interim_answers_are_forgotten(void **state)
{
    fixture *f = *state;
    loopback_script(f->server,
                    "HTTP/1.1 100 Continue\r\nInterim: yes\r\n\r\n"
                    "HTTP/1.1 204 No Content\r\nFinal: yes\r\n\r\n",
                    LOOPBACK_KEEP);
    assert_int_equal(perform(f, &(wa_http_request){0}), WA_OK);
    assert_int_equal(f->response.status, 204);
    assert_null(wa_http_header(&f->response, "interim"));
    assert_string_equal(wa_http_header(&f->response, "final"), "yes");
}

static void
put_sends_headers_and_a_body_without_expect(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_strv_done) wa_strv headers = {0};
    wa_strv_add(&headers, "X-One: 1");
    loopback_reply(f->server, 200, "", "");
    wa_http_request request = {
        .method = "PUT", .headers = &headers, .body = "content", .body_len = 7};
    assert_int_equal(perform(f, &request), WA_OK);
    const char *asked = loopback_request(f->server, 0);
    assert_ptr_equal(strstr(asked, "PUT /path HTTP/1.1\r\n"), asked);
    assert_non_null(strstr(asked, "\r\nX-One: 1\r\n"));
    assert_non_null(strstr(asked, "\r\nContent-Length: 7\r\n"));
    assert_null(strcasestr(asked, "\r\nExpect:"));
    assert_null(strcasestr(asked, "\r\nTransfer-Encoding:"));
    assert_string_equal(strstr(asked, "\r\n\r\n") + 4, "content");
}

static void
put_without_a_body_says_so(void **state)
{
    fixture *f = *state;
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(perform(f, &(wa_http_request){.method = "POST"}), WA_OK);
    assert_non_null(strstr(loopback_request(f->server, 0), "\r\nContent-Length: 0\r\n"));
}

static void
put_sends_a_range_of_a_file(void **state)
{
    fixture *f = *state;
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_true(fputs("0123456789", file) >= 0 && fflush(file) == 0);
    loopback_reply(f->server, 200, "", "");
    wa_http_request request = {
        .method = "PUT", .body_len = 4, .body_fd = fileno(file), .body_offset = 3};
    assert_int_equal(perform(f, &request), WA_OK);
    assert_string_equal(strstr(loopback_request(f->server, 0), "\r\n\r\n") + 4, "3456");
    request.body_offset = 8; /* the file ends before */
    loopback_reply(f->server, 200, "", "");
    assert_int_equal(perform(f, &request), WA_CORRUPT);
    (void)fclose(file);
}

static void
head_does_not_wait_for_a_body(void **state)
{
    fixture *f = *state;
    loopback_script(f->server, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", LOOPBACK_KEEP);
    assert_int_equal(perform(f, &(wa_http_request){.method = "HEAD"}), WA_OK);
    assert_string_equal(wa_http_header(&f->response, "content-length"), "1000");
}

static void
redirects_are_the_callers(void **state)
{
    fixture *f = *state;
    loopback_reply(f->server, 307, "Location: /elsewhere\r\n", "");
    assert_int_equal(perform(f, &(wa_http_request){0}), WA_OK);
    assert_int_equal(f->response.status, 307);
    assert_int_equal(loopback_count(f->server), 1);
}

static wa_status
collect(void *arg, const void *data, size_t len, wa_error *err)
{
    return wa_buf_append(arg, data, len, err);
}

static void
body_function_gets_bodies_of_success_only(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(100);
    wa_http_request request = {.on_body = collect, .on_body_arg = &got};
    loopback_reply(f->server, 404, "", "error");
    assert_int_equal(perform(f, &request), WA_OK);
    assert_string_equal(wa_buf_str(&f->response.body), "error");
    assert_int_equal(got.len, 0);
    loopback_reply(f->server, 206, "", "good");
    assert_int_equal(perform(f, &request), WA_OK);
    assert_string_equal(wa_buf_str(&got), "good");
    assert_int_equal(f->response.body.len, 0);
}

static wa_status
refuse(void *arg, const wa_http_response *r, wa_error *err)
{
    (void)arg;
    return wa_error_set(err, WA_CONFLICT, "do not want %d", r->status);
}

static void
failure_of_a_function_is_the_result(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_buf_done) wa_buf small = WA_BUF_INIT(3);
    loopback_reply(f->server, 200, "", "too much");
    wa_http_request request = {.on_body = collect, .on_body_arg = &small};
    assert_int_equal(perform(f, &request), WA_NO_SPACE);
    loopback_reply(f->server, 200, "", "body");
    assert_int_equal(perform(f, &(wa_http_request){.on_headers = refuse}), WA_CONFLICT);
    assert_string_equal(f->err.message, "do not want 200");
    loopback_reply(f->server, 200, "", ""); /* headers are told without a body too */
    assert_int_equal(perform(f, &(wa_http_request){.on_headers = refuse}), WA_CONFLICT);
}

static void
truncated_and_missing_answers_are_unavailable(void **state)
{
    fixture *f = *state;
    loopback_script(f->server, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
                    LOOPBACK_CLOSE);
    assert_int_equal(perform(f, &(wa_http_request){0}), WA_UNAVAILABLE);
    loopback_script(f->server, "", LOOPBACK_CLOSE);
    assert_int_equal(perform(f, &(wa_http_request){0}), WA_UNAVAILABLE);
}

static void
a_dead_kept_connection_is_counted_as_sent_twice(void **state)
{
    fixture *f = *state;
    loopback_reply(f->server, 200, "", "");
    loopback_script(f->server, "", LOOPBACK_CLOSE);
    loopback_reply(f->server, 200, "", "");
    wa_http_request request = {.method = "PUT", .body = "content", .body_len = 7};
    assert_int_equal(perform(f, &request), WA_OK);
    assert_int_equal(f->response.sends, 1);
    assert_int_equal(perform(f, &request), WA_OK);
    assert_int_equal(f->response.sends, 2);
    assert_int_equal(loopback_count(f->server), 3);
    assert_string_equal(strstr(loopback_request(f->server, 2), "\r\n\r\n") + 4, "content");
}

static void
nobody_there_is_unavailable(void **state)
{
    fixture *f = *state;
    loopback *other = loopback_start();
    (void)snprintf(f->url, sizeof f->url, "http://127.0.0.1:%d/", loopback_port(other));
    loopback_stop(other);
    assert_int_equal(perform(f, &(wa_http_request){0}), WA_UNAVAILABLE);
    (void)snprintf(f->url, sizeof f->url, "ftp://127.0.0.1/");
    assert_int_equal(perform(f, &(wa_http_request){0}), WA_INVALID);
}

typedef struct canceller {
    loopback *server;
    wa_cancel cancel;
} canceller;

static void *
cancel_when_asked(void *arg)
{
    canceller *c = arg;
    loopback_wait(c->server, 1);
    wa_cancel_trigger(&c->cancel);
    return NULL;
}

/* A label of 70 characters resolves nowhere, and nobody is asked. */
static void
a_name_that_does_not_resolve_spoils_nothing_that_comes_later(void **state)
{
    fixture *f = *state;
    char name[71];
    (void)memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (int i = 0; i < 3; i++) {
        WA_CLEANUP(wa_freep) char *nowhere = wa_format("http://%s.test:1/path", name);
        wa_http_request request = {.method = "GET", .url = nowhere};
        assert_int_equal(wa_http_perform(f->http, &request, &f->response, &f->err), WA_UNAVAILABLE);
        wa_error_clear(&f->err);
    }
    loopback_reply(f->server, 200, "", "body");
    assert_int_equal(perform(f, &(wa_http_request){0}), WA_OK);
    assert_int_equal(f->response.status, 200);
}

static void
cancel_wakes_a_waiting_exchange(void **state)
{
    fixture *f = *state;
    canceller c = {.server = f->server};
    assert_int_equal(wa_cancel_init(&c.cancel, &f->err), WA_OK);
    loopback_script(f->server, "", LOOPBACK_HANG);
    pthread_t thread;
    assert_int_equal(wa_thread_start(&thread, "canceller", cancel_when_asked, &c, &f->err), WA_OK);
    assert_int_equal(perform(f, &(wa_http_request){.cancel = &c.cancel}), WA_CANCELLED);
    wa_thread_join(thread);
    wa_cancel_done(&c.cancel);
}

static void
deadlines_end_an_exchange(void **state)
{
    fixture *f = *state;
    loopback_script(f->server, "", LOOPBACK_HANG);
    wa_http_request request = {.answer_deadline = wa_mono_now() + 20};
    assert_int_equal(perform(f, &request), WA_UNAVAILABLE);
    loopback_script(f->server, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", LOOPBACK_HANG);
    request = (wa_http_request){.deadline = wa_mono_now() + 20};
    assert_int_equal(perform(f, &request), WA_UNAVAILABLE);
}

static void
retry_after_is_seconds_or_a_date(void **state)
{
    fixture *f = *state;
    assert_int_equal(wa_http_retry_after_ms(&f->response), 0);
    wa_strv_add(&f->response.headers, "retry-after: 7");
    assert_int_equal(wa_http_retry_after_ms(&f->response), 7000);
    wa_strv_done(&f->response.headers);
    wa_strv_add(&f->response.headers, "retry-after: Fri, 24 May 2013 00:00:00 GMT");
    assert_int_equal(wa_http_retry_after_ms(&f->response), 0);
    wa_strv_done(&f->response.headers);
    wa_strv_add(&f->response.headers, "retry-after: soon");
    assert_int_equal(wa_http_retry_after_ms(&f->response), 0);
    assert_int_equal(wa_http_parse_date("Fri, 24 May 2013 00:00:00 GMT"),
                     wa_time_from_unix_us(INT64_C(1369353600000000)));
    assert_int_equal(wa_http_parse_date("yesterday?"), WA_TIME_NONE);
    assert_int_equal(wa_http_parse_date(NULL), WA_TIME_NONE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answer_has_status_headers_and_body),
        TEST(interim_answers_are_forgotten),
        TEST(put_sends_headers_and_a_body_without_expect),
        TEST(put_without_a_body_says_so),
        TEST(put_sends_a_range_of_a_file),
        TEST(head_does_not_wait_for_a_body),
        TEST(redirects_are_the_callers),
        TEST(body_function_gets_bodies_of_success_only),
        TEST(failure_of_a_function_is_the_result),
        TEST(truncated_and_missing_answers_are_unavailable),
        TEST(a_dead_kept_connection_is_counted_as_sent_twice),
        TEST(nobody_there_is_unavailable),
        TEST(a_name_that_does_not_resolve_spoils_nothing_that_comes_later),
        TEST(cancel_wakes_a_waiting_exchange),
        TEST(deadlines_end_an_exchange),
        TEST(retry_after_is_seconds_or_a_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
