/*
 * libcurl.c - what we call of libcurl, which is loaded when it is first needed (base/library.h).
 */
#include "http_internal.h"

#include "walagent/base/library.h"

#include <curl/curl.h>
#include <stdarg.h>

#define FUNCTIONS(F)                                                                               \
    F(void, curl_easy_cleanup, (CURL * easy), (easy))                                              \
    F(CURL *, curl_easy_init, (void), ())                                                          \
    F(void, curl_easy_reset, (CURL * easy), (easy))                                                \
    F(const char *, curl_easy_strerror, (CURLcode code), (code))                                   \
    F(time_t, curl_getdate, (const char *text, const time_t *unused), (text, unused))              \
    F(CURLcode, curl_global_init, (long flags), (flags))                                           \
    F(CURLMcode, curl_multi_add_handle, (CURLM * multi, CURL * easy), (multi, easy))               \
    F(CURLMcode, curl_multi_cleanup, (CURLM * multi), (multi))                                     \
    F(CURLMsg *, curl_multi_info_read, (CURLM * multi, int *left), (multi, left))                  \
    F(CURLM *, curl_multi_init, (void), ())                                                        \
    F(CURLMcode, curl_multi_perform, (CURLM * multi, int *running), (multi, running))              \
    F(CURLMcode, curl_multi_poll,                                                                  \
      (CURLM * multi, struct curl_waitfd fds[], unsigned int count, int timeout_ms, int *ready),   \
      (multi, fds, count, timeout_ms, ready))                                                      \
    F(CURLMcode, curl_multi_remove_handle, (CURLM * multi, CURL * easy), (multi, easy))            \
    F(const char *, curl_multi_strerror, (CURLMcode code), (code))                                 \
    F(struct curl_slist *, curl_slist_append, (struct curl_slist * list, const char *text),        \
      (list, text))                                                                                \
    F(void, curl_slist_free_all, (struct curl_slist * list), (list))
#define ALL(F) FUNCTIONS(F) F(CURLcode, curl_easy_setopt, (), ())

WA_LIBRARY(WA_CURL_SONAME, ALL);
FUNCTIONS(WA_LIBRARY_DEFINE)

#undef curl_easy_setopt /* a macro that checks types, and then calls: */

/* An option's number tells what follows: long, a pointer, or curl_off_t. */
CURLcode
curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
    __typeof__(&curl_easy_setopt) set =
        (__typeof__(&curl_easy_setopt))wa_library_function(&library, INDEX_OF_curl_easy_setopt);
    CURLcode code = CURLE_OK;
    va_list args;
    va_start(args, option);
    if (option < CURLOPTTYPE_OBJECTPOINT)
        code = set(easy, option, va_arg(args, long));
    else if (option >= CURLOPTTYPE_OFF_T && option < CURLOPTTYPE_BLOB)
        code = set(easy, option, va_arg(args, curl_off_t));
    else
        code = set(easy, option, va_arg(args, void *));
    va_end(args);
    return code;
}

wa_status
wa_libcurl_load(wa_error *err)
{
    return wa_library_load(&library, err);
}
