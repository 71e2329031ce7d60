/*
 * store/sigv4.c - AWS Signature Version 4.
 *
 * canonical request = method LF path LF query LF (name:value LF)* LF names LF payload hash
 * string to sign    = "AWS4-HMAC-SHA256" LF time LF date/region/service/aws4_request LF
 * sha256(canonical) signature         = HMAC(HMAC(HMAC(HMAC(HMAC("AWS4"+secret, date), region),
 * service), "aws4_request"), string)
 */
#include "sigv4_internal.h"

#include "walagent/codec/hash.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (64u << 10)

void
wa_sigv4_encode(wa_buf *out, const char *text, bool keep_slash)
{
    for (const char *c = text; *c != '\0'; c++) {
        bool plain = (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') ||
                     (*c >= '0' && *c <= '9') || *c == '-' || *c == '.' || *c == '_' || *c == '~' ||
                     (*c == '/' && keep_slash);
        if (plain)
            wa_buf_putc(out, *c);
        else
            wa_buf_printf(out, "%%%02X", (unsigned char)*c);
    }
}

/* "name=value" or "name:value" by name, then value: a plain strcmp would let the separator take
 * part, and
 * '-' sorts below both. */
static int
compare_by_name(const void *a, const void *b)
{
    const char *left = *(const char *const *)a;
    const char *right = *(const char *const *)b;
    size_t left_name = strcspn(left, "=:");
    size_t right_name = strcspn(right, "=:");
    size_t shorter = left_name < right_name ? left_name : right_name;
    int order = strncmp(left, right, shorter);
    if (order == 0 && left_name != right_name)
        return left_name < right_name ? -1 : 1;
    return order != 0 ? order : strcmp(left + left_name, right + right_name);
}

char *
wa_sigv4_query(const wa_strv *parameters)
{
    WA_CLEANUP(wa_strv_done) wa_strv encoded = {0};
    for (size_t i = 0; i < parameters->count; i++) {
        const char *item = parameters->items[i];
        size_t name_len = strcspn(item, "=");
        WA_CLEANUP(wa_freep) char *name = wa_strndup(item, name_len);
        WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(TEXT_MAX);
        wa_sigv4_encode(&text, name, false);
        wa_buf_putc(&text, '=');
        wa_sigv4_encode(&text, item[name_len] == '=' ? item + name_len + 1 : "", false);
        wa_strv_take(&encoded, wa_buf_detach(&text));
    }
    if (encoded.count > 1)
        qsort(encoded.items, encoded.count, sizeof *encoded.items, compare_by_name);
    WA_CLEANUP(wa_buf_done) wa_buf query = WA_BUF_INIT(TEXT_MAX);
    for (size_t i = 0; i < encoded.count; i++) {
        if (i > 0)
            wa_buf_putc(&query, '&');
        wa_buf_puts(&query, encoded.items[i]);
    }
    return wa_buf_detach(&query);
}

/* "Name:  a   b " becomes "name:a b". A new string. */
static char *
canonical_header(const char *line)
{
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(TEXT_MAX);
    const char *c = line;
    for (; *c != ':' && *c != '\0'; c++)
        wa_buf_putc(&out, (char)tolower((unsigned char)*c));
    wa_buf_putc(&out, ':');
    bool gap = false;
    size_t value_begin = out.len;
    for (c += *c == ':'; *c != '\0'; c++) {
        if (isspace((unsigned char)*c)) {
            gap = out.len > value_begin;
            continue;
        }
        if (gap)
            wa_buf_putc(&out, ' ');
        gap = false;
        wa_buf_putc(&out, *c);
    }
    return wa_buf_detach(&out);
}

/* Fills the canonical request; returns the list of signed names, a new string. */
static char *
canonical_request(const wa_sigv4_request *request, const wa_strv *headers, wa_buf *out)
{
    WA_CLEANUP(wa_strv_done) wa_strv lines = {0};
    wa_strv_take(&lines, wa_format("host:%s", request->host));
    for (size_t i = 0; i < headers->count; i++)
        wa_strv_take(&lines, canonical_header(headers->items[i]));
    qsort(lines.items, lines.count, sizeof *lines.items, compare_by_name);
    WA_CLEANUP(wa_buf_done) wa_buf names = WA_BUF_INIT(TEXT_MAX);
    wa_buf_printf(out, "%s\n%s\n%s\n", request->method, request->path, request->query);
    for (size_t i = 0; i < lines.count; i++) {
        wa_buf_printf(out, "%s\n", lines.items[i]);
        if (i > 0)
            wa_buf_putc(&names, ';');
        wa_buf_add(&names, lines.items[i], strcspn(lines.items[i], ":"));
    }
    wa_buf_printf(out, "\n%s\n%s", wa_buf_str(&names), request->payload_hash);
    return wa_buf_detach(&names);
}

static void
derive_key(const wa_sigv4_request *request, const char *date, uint8_t key[static 32])
{
    WA_CLEANUP(wa_freep) char *first = wa_format("AWS4%s", request->secret_key);
    uint8_t next[32];
    wa_hmac_sha256(first, strlen(first), date, strlen(date), key);
    wa_hmac_sha256(key, 32, request->region, strlen(request->region), next);
    wa_hmac_sha256(next, 32, request->service, strlen(request->service), key);
    wa_hmac_sha256(key, 32, "aws4_request", strlen("aws4_request"), next);
    memcpy(key, next, 32);
}

void
wa_sigv4_sign(const wa_sigv4_request *request, wa_strv *headers)
{
    char stamp[WA_TIME_TEXT];
    wa_time_format_compact(request->now, stamp);
    WA_CLEANUP(wa_freep) char *date = wa_strndup(stamp, 8);
    wa_strv_take(headers, wa_format("x-amz-date: %s", stamp));
    wa_strv_take(headers, wa_format("x-amz-content-sha256: %s", request->payload_hash));
    if (!wa_str_empty(request->session_token))
        wa_strv_take(headers, wa_format("x-amz-security-token: %s", request->session_token));

    WA_CLEANUP(wa_buf_done) wa_buf canonical = WA_BUF_INIT(TEXT_MAX);
    WA_CLEANUP(wa_freep) char *names = canonical_request(request, headers, &canonical);
    char hash[WA_SHA256_HEX];
    wa_sha256_hex(canonical.data, canonical.len, hash);
    WA_CLEANUP(wa_freep)
    char *scope = wa_format("%s/%s/%s/aws4_request", date, request->region, request->service);
    WA_CLEANUP(wa_freep)
    char *to_sign = wa_format("AWS4-HMAC-SHA256\n%s\n%s\n%s", stamp, scope, hash);

    uint8_t key[32], signature[32];
    char signature_hex[65];
    derive_key(request, date, key);
    wa_hmac_sha256(key, 32, to_sign, strlen(to_sign), signature);
    wa_hex(signature, sizeof signature, signature_hex);
    wa_strv_take(headers, wa_format("Authorization: AWS4-HMAC-SHA256 Credential=%s/%s, "
                                    "SignedHeaders=%s, Signature=%s",
                                    request->access_key, scope, names, signature_hex));
}
