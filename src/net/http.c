/*
 * net/http.c - one HTTP exchange at a time on libcurl's multi interface, so that a cancel wakes it.
 */
#include "walagent/net/http.h"

#include "http_internal.h"

#include "walagent/base/file.h"

#include <ctype.h>
#include <curl/curl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define BODY_MAX (16u << 20)
#define HEADERS_MAX 200
#define CONNECT_TIMEOUT_MS 10000L
#define STALL_BYTES_PER_SECOND 1000L
#define STALL_SECONDS 20
#define POLL_SLICE_MS 1000

struct wa_http {
    CURL *easy;
    CURLM *multi;
    char *ca_file;
    char *user_agent;
    bool insecure;
    bool no_proxy;
};

/* One exchange; lives on the stack of wa_http_perform. */
typedef struct exchange {
    const wa_http_request *request;
    wa_http_response response;
    wa_error *err;     /* of a callback of ours that failed */
    bool failed;       /* err is set */
    bool told_headers; /* on_headers was called */
    uint64_t sent;     /* bytes of the body handed to libcurl */
    wa_mono moved;     /* when the answer last brought something */
    char detail[CURL_ERROR_SIZE];
} exchange;

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_result;

static void
init_once(void)
{
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        (void)sigaction(SIGPIPE, &action, NULL);
    }
    global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

wa_status
wa_http_global_init(wa_error *err)
{
    WA_TRY(wa_libcurl_load(err));
    (void)pthread_once(&global_once, init_once);
    if (global_result != CURLE_OK)
        return wa_error_set(err, WA_FAILED, "could not initialize libcurl: %s",
                            curl_easy_strerror(global_result));
    return WA_OK;
}

wa_status
wa_http_new(const wa_http_options *options, wa_http **ret, wa_error *err)
{
    WA_TRY(wa_http_global_init(err));
    WA_CLEANUP(wa_http_freep) wa_http *http = wa_calloc(1, sizeof *http);
    http->easy = curl_easy_init();
    http->multi = curl_multi_init();
    if (http->easy == NULL || http->multi == NULL)
        return wa_error_set(err, WA_FAILED, "could not create an HTTP client: out of memory");
    http->ca_file = wa_strdup(options->ca_file);
    http->user_agent = wa_strdup(options->user_agent);
    http->insecure = options->insecure;
    http->no_proxy = options->no_proxy;
    *ret = WA_TAKE(http);
    return WA_OK;
}

void
wa_http_free(wa_http *http)
{
    if (http == NULL)
        return;
    if (http->easy != NULL)
        curl_easy_cleanup(http->easy);
    if (http->multi != NULL)
        curl_multi_cleanup(http->multi);
    wa_freep(&http->ca_file);
    wa_freep(&http->user_agent);
    wa_freep(&http);
}

void
wa_http_response_done(wa_http_response *r)
{
    wa_strv_done(&r->headers);
    wa_buf_done(&r->body);
    memset(r, 0, sizeof *r);
}

const char *
wa_http_header(const wa_http_response *r, const char *lower_name)
{
    size_t len = strlen(lower_name);
    for (size_t i = 0; i < r->headers.count; i++) {
        const char *line = r->headers.items[i];
        if (strncmp(line, lower_name, len) == 0 && line[len] == ':')
            return line + len + 2;
    }
    return NULL;
}

wa_time
wa_http_parse_date(const char *text)
{
    if (text == NULL)
        return WA_TIME_NONE;
    time_t seconds = curl_getdate(text, NULL);
    if (seconds == (time_t)-1)
        return WA_TIME_NONE;
    return wa_time_from_unix_us((int64_t)seconds * 1000000);
}

uint64_t
wa_http_retry_after_ms(const wa_http_response *r)
{
    const char *value = wa_http_header(r, "retry-after");
    if (value == NULL)
        return 0;
    wa_error ignored = WA_ERROR_INIT;
    uint64_t seconds;
    if (wa_parse_u64(value, &seconds, &ignored) == WA_OK)
        return seconds < 86400 ? seconds * 1000 : 86400000;
    wa_time until = wa_http_parse_date(value);
    wa_time now = wa_time_now();
    return until == WA_TIME_NONE || until <= now ? 0 : (uint64_t)(until - now) / 1000;
}

static bool
successful(const exchange *x)
{
    return x->response.status >= 200 && x->response.status < 300;
}

/* Called for each request as it goes out: a dead kept-alive connection makes libcurl send again. */
static int
on_send(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
    (void)remote_ip;
    (void)local_ip;
    (void)remote_port;
    (void)local_port;
    ((exchange *)arg)->response.sends++;
    return CURL_PREREQFUNC_OK;
}

static size_t
on_header(char *line, size_t size, size_t count, void *arg)
{
    exchange *x = arg;
    x->moved = wa_mono_now();
    size_t len = size * count;
    size_t end = len;
    while (end > 0 && isspace((unsigned char)line[end - 1]))
        end--;
    if (end > 5 && memcmp(line, "HTTP/", 5) == 0) { /* a new answer: forget an interim one */
        unsigned sends = x->response.sends;
        wa_http_response_done(&x->response);
        wa_buf_init(&x->response.body, BODY_MAX);
        x->response.sends = sends;
        const char *space = memchr(line, ' ', end);
        for (size_t i = 1; space != NULL && i <= 3 && space + i < line + end; i++)
            if (isdigit((unsigned char)space[i]))
                x->response.status = x->response.status * 10 + (space[i] - '0');
        return len;
    }
    char *colon = memchr(line, ':', end);
    if (colon == NULL || x->response.headers.count >= HEADERS_MAX)
        return len;
    char *value = colon + 1;
    while (value < line + end && isspace((unsigned char)*value))
        value++;
    char *text =
        wa_format("%.*s: %.*s", (int)(colon - line), line, (int)(line + end - value), value);
    for (char *c = text; c < text + (colon - line); c++)
        *c = (char)tolower((unsigned char)*c);
    wa_strv_take(&x->response.headers, text);
    return len;
}

static wa_status
tell_headers(exchange *x)
{
    if (x->told_headers || x->request->on_headers == NULL || !successful(x))
        return WA_OK;
    x->told_headers = true;
    return x->request->on_headers(x->request->on_body_arg, &x->response, x->err);
}

static size_t
on_body(char *data, size_t size, size_t count, void *arg)
{
    exchange *x = arg;
    size_t len = size * count;
    x->moved = wa_mono_now();
    wa_status status = tell_headers(x);
    if (status == WA_OK && successful(x) && x->request->on_body != NULL)
        status = x->request->on_body(x->request->on_body_arg, data, len, x->err);
    else if (status == WA_OK)
        status = wa_buf_append(&x->response.body, data, len, x->err);
    x->failed = x->failed || status != WA_OK;
    return status == WA_OK ? len : (size_t)-1;
}

static size_t
on_read(char *to, size_t size, size_t count, void *arg)
{
    exchange *x = arg;
    const wa_http_request *request = x->request;
    uint64_t left = request->body_len - x->sent;
    size_t want = size * count < left ? size * count : (size_t)left;
    if (want > 0 && request->body != NULL) {
        memcpy(to, (const char *)request->body + x->sent, want);
    } else if (want > 0) {
        off_t at = (off_t)(request->body_offset + x->sent);
        if (wa_pread_all(request->body_fd, to, want, at, "request body", x->err) != WA_OK) {
            x->failed = true;
            return CURL_READFUNC_ABORT;
        }
    }
    x->sent += want;
    return want;
}

static int
on_seek(void *arg, curl_off_t offset, int origin)
{
    exchange *x = arg;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > x->request->body_len)
        return CURL_SEEKFUNC_FAIL;
    x->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

#define SET(easy, option, value) ok = ok && curl_easy_setopt((easy), (option), (value)) == CURLE_OK

static bool
set_connection(const wa_http *http, exchange *x)
{
    CURL *easy = http->easy;
    bool ok = true;
    SET(easy, CURLOPT_NOSIGNAL, 1L);
    SET(easy, CURLOPT_FOLLOWLOCATION, 0L);
    SET(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    SET(easy, CURLOPT_TCP_NODELAY, 1L);
    SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    SET(easy, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024);
    SET(easy, CURLOPT_BUFFERSIZE, 256L * 1024);
    SET(easy, CURLOPT_ERRORBUFFER, x->detail);
    if (http->user_agent != NULL)
        SET(easy, CURLOPT_USERAGENT, http->user_agent);
    if (http->no_proxy)
        SET(easy, CURLOPT_PROXY, "");
    SET(easy, CURLOPT_SSL_VERIFYPEER, http->insecure ? 0L : 1L);
    SET(easy, CURLOPT_SSL_VERIFYHOST, http->insecure ? 0L : 2L);
    if (http->ca_file != NULL) { /* this one alone */
        SET(easy, CURLOPT_CAINFO, http->ca_file);
        SET(easy, CURLOPT_CAPATH, NULL);
    }
    return ok;
}

static bool
set_request(const wa_http *http, const wa_http_request *request, struct curl_slist *headers,
            exchange *x)
{
    CURL *easy = http->easy;
    long stall =
        request->stall_seconds > STALL_SECONDS ? (long)request->stall_seconds : STALL_SECONDS;
    bool ok = true;
    SET(easy, CURLOPT_URL, request->url);
    SET(easy, CURLOPT_PATH_AS_IS, 1L); /* what is sent is what was signed */
    SET(easy, CURLOPT_HTTPHEADER, headers);
    SET(easy, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_PER_SECOND);
    SET(easy, CURLOPT_LOW_SPEED_TIME, stall);
    SET(easy, CURLOPT_PREREQFUNCTION, on_send);
    SET(easy, CURLOPT_PREREQDATA, x);
    SET(easy, CURLOPT_HEADERFUNCTION, on_header);
    SET(easy, CURLOPT_HEADERDATA, x);
    SET(easy, CURLOPT_WRITEFUNCTION, on_body);
    SET(easy, CURLOPT_WRITEDATA, x);
    bool sends = request->body_len > 0 || wa_str_eq(request->method, "PUT") ||
                 wa_str_eq(request->method, "POST");
    if (wa_str_eq(request->method, "HEAD")) {
        SET(easy, CURLOPT_NOBODY, 1L);
    } else if (sends) {
        SET(easy, CURLOPT_UPLOAD, 1L);
        SET(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_len);
        SET(easy, CURLOPT_READFUNCTION, on_read);
        SET(easy, CURLOPT_READDATA, x);
        SET(easy, CURLOPT_SEEKFUNCTION, on_seek);
        SET(easy, CURLOPT_SEEKDATA, x);
    }
    if (!wa_str_eq(request->method, "HEAD"))
        SET(easy, CURLOPT_CUSTOMREQUEST, request->method);
    return ok;
}

/* Until the nearest deadline, at most one slice; 0 when one has passed. libcurl's low-speed limit
 * looks at an average and notices silence late: an answer that stops half-way is noticed here. */
static int
time_left(const exchange *x)
{
    const wa_http_request *request = x->request;
    bool answering = x->response.status != 0;
    unsigned stall = request->stall_seconds > 0 ? request->stall_seconds : STALL_SECONDS;
    wa_mono until[] = {request->deadline, answering ? 0 : request->answer_deadline,
                       answering ? x->moved + stall * UINT64_C(1000) : 0};
    int wait = POLL_SLICE_MS;
    for (size_t i = 0; i < WA_ARRAY_SIZE(until); i++) {
        int left = until[i] != 0 ? wa_mono_left(until[i]) : wait;
        wait = left < wait ? left : wait;
    }
    return wait;
}

/* Runs to the end; a CURLcode, or -1 with err set (deadline, cancel). */
static int
drive(const wa_http *http, const exchange *x, wa_error *err)
{
    const wa_http_request *request = x->request;
    for (;;) {
        int running = 0;
        CURLMcode code = curl_multi_perform(http->multi, &running);
        if (code != CURLM_OK) {
            (void)wa_error_set(err, WA_FAILED, "HTTP client failed: %s", curl_multi_strerror(code));
            return -1;
        }
        int left_messages;
        CURLMsg *message = curl_multi_info_read(http->multi, &left_messages);
        if (message != NULL && message->msg == CURLMSG_DONE)
            return (int)message->data.result;
        if (wa_cancel_check(request->cancel, err) != WA_OK)
            return -1;
        int wait = time_left(x);
        if (wait == 0) {
            (void)wa_error_set(err, WA_UNAVAILABLE, "%s",
                               x->response.status != 0 ? "the answer stopped half-way"
                                                       : "no answer in time");
            return -1;
        }
        struct curl_waitfd extra = {.events = CURL_WAIT_POLLIN};
        if (request->cancel != NULL)
            extra.fd = request->cancel->fd;
        (void)curl_multi_poll(http->multi, request->cancel != NULL ? &extra : NULL,
                              request->cancel != NULL ? 1 : 0, wait, NULL);
    }
}

static wa_status
transport_error(const wa_http *http, CURLcode code, const exchange *x, wa_error *err)
{
    const char *what = x->detail[0] != '\0' ? x->detail : curl_easy_strerror(code);
    switch ((int)code) {
    case CURLE_PEER_FAILED_VERIFICATION:
        (void)wa_error_set(err, WA_DENIED, "TLS certificate was not accepted: %s", what);
        return wa_error_hint(
            err,
            "If the server uses a private CA, name its certificate in s3_ca_file "
            "(now: %s); the host in the URL must be one of the certificate's names.",
            http->ca_file != NULL ? http->ca_file : "the system's CAs");
    case CURLE_SSL_CACERT_BADFILE:
        (void)wa_error_set(err, WA_INVALID, "could not read the CA certificates: %s", what);
        return wa_error_hint(err, "Check that the CA file exists, is readable, and is PEM.");
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return wa_error_set(err, WA_INVALID, "not a usable URL: %s", what);
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT:
        return wa_error_set(err, WA_FAILED, "HTTP client failed: %s", what);
    case CURLE_OPERATION_TIMEDOUT:
        return wa_error_set(err, WA_UNAVAILABLE, "the server is too slow: %s", what);
    default:
        return wa_error_set(err, WA_UNAVAILABLE, "%s", what);
    }
}

static void
free_slist(struct curl_slist **list)
{
    curl_slist_free_all(*list);
}

static wa_status
add_header(struct curl_slist **list, const char *line, wa_error *err)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer == NULL)
        return wa_error_set(err, WA_FAILED, "HTTP client failed: out of memory");
    *list = longer;
    return WA_OK;
}

/* A handle that got no connection (a name that doesn't resolve) keeps its buffers, and libcurl then
 * refuses to have their size set again. Connections and addresses are the multi handle's. */
static void
renew_handle(wa_http *http)
{
    CURL *fresh = curl_easy_init();
    if (fresh == NULL)
        return; /* tried again after the next failure */
    curl_easy_cleanup(http->easy);
    http->easy = fresh;
}

wa_status
wa_http_perform(wa_http *http, const wa_http_request *request, wa_http_response *ret, wa_error *err)
{
    WA_TRY(wa_cancel_check(request->cancel, err));
    exchange x = {.request = request, .err = err};
    wa_buf_init(&x.response.body, BODY_MAX);
    WA_CLEANUP(free_slist) struct curl_slist *headers = NULL;
    WA_TRY(add_header(&headers, "Expect:", err));
    for (size_t i = 0; request->headers != NULL && i < request->headers->count; i++)
        WA_TRY(add_header(&headers, request->headers->items[i], err));
    curl_easy_reset(http->easy);
    if (!set_connection(http, &x) || !set_request(http, request, headers, &x))
        return wa_error_set(err, WA_INVALID, "could not set up a request for \"%s\"", request->url);
    if (curl_multi_add_handle(http->multi, http->easy) != CURLM_OK)
        return wa_error_set(err, WA_FAILED, "HTTP client failed: could not start");
    int code = drive(http, &x, err);
    (void)curl_multi_remove_handle(http->multi, http->easy);
    curl_easy_reset(http->easy); /* it must not keep pointers into this frame */
    if (code != CURLE_OK)
        renew_handle(http);
    wa_status status = WA_OK;
    if (code < 0 || x.failed)
        status = err->status;
    else if (code != CURLE_OK)
        status = transport_error(http, (CURLcode)code, &x, err);
    else
        status = tell_headers(&x); /* a body without bytes */
    if (status != WA_OK) {
        wa_http_response_done(&x.response);
        return status;
    }
    *ret = x.response;
    return WA_OK;
}
