/*
 * store/s3_error.c - what an S3 server's answers mean, in one line each, with what to do.
 *
 * Servers differ in codes for one meaning, and an answer to HEAD has no body: a code that we know
 * decides, otherwise the HTTP status. "Not found" is said only when the answer is an S3 server's
 * own. Body: <Error><Code/><Message/>...</Error>.
 */
#include "s3_internal.h"

#include "walagent/codec/xml.h"

#include <string.h>

typedef struct meaning {
    const char *code;
    wa_status status;
    const char *text; /* NULL: the server's own message */
    const char *hint; /* one %s at most: see add_hint */
} meaning;

static const meaning meanings[] = {
    {"SignatureDoesNotMatch", WA_DENIED, "the secret access key does not fit the access key ID",
     "Check s3_secret_access_key (or its file) for access key ID %s."},
    {"InvalidAccessKeyId", WA_DENIED, "the server does not know the access key ID",
     "Check s3_access_key_id (now %s) and that s3_endpoint is the server it belongs to."},
    {"AccessDenied", WA_DENIED, "access denied",
     "Check access key ID %s, its secret, and its policy: it needs s3:ListBucket, s3:GetObject, "
     "s3:PutObject, s3:AbortMultipartUpload, and s3:DeleteObject for expire; object lock refuses "
     "deletions too."},
    {"ExpiredToken", WA_DENIED, "the session token has expired",
     "Renew the temporary credentials of access key ID %s."},
    {"InvalidToken", WA_DENIED, "the session token is not valid",
     "Check the temporary credentials of access key ID %s."},
    {"RequestTimeTooSkewed", WA_DENIED,
     "the clocks of this machine and of the server differ too much",
     "Set this machine's clock (NTP)."},
    {"NoSuchBucket", WA_INVALID, "the bucket does not exist",
     "Create the bucket (aws s3 mb), or correct the URL and s3_endpoint."},
    {"InvalidBucketName", WA_INVALID, NULL, "Correct the bucket in the repository's URL."},
    {"AuthorizationHeaderMalformed", WA_INVALID, NULL, "Set s3_region to the bucket's region."},
    {"PermanentRedirect", WA_INVALID, "the bucket is in another region or at another endpoint",
     "Set s3_region and s3_endpoint to the bucket's."},
    {"QuotaExceeded", WA_NO_SPACE, "the quota is used up", "Raise the quota or expire backups."},
    {"XMinioStorageFull", WA_NO_SPACE, "the server's storage is full",
     "Add storage or expire backups."},
    {"StorageFull", WA_NO_SPACE, "the server's storage is full", "Add storage or expire backups."},
    {"NotImplemented", WA_UNSUPPORTED, NULL, NULL},
    {"NoSuchKey", WA_NOT_FOUND, "no such object", NULL},
    {"NoSuchVersion", WA_NOT_FOUND, "no such object", NULL},
    {"NoSuchUpload", WA_NOT_FOUND, "no such multipart upload", NULL},
    {"PreconditionFailed", WA_EXISTS, NULL, NULL},
    {"InvalidObjectState", WA_UNSUPPORTED, "the object is in an archive storage class",
     "Restore it from the archive storage class first."},
    {"BadDigest", WA_UNAVAILABLE, "the bytes were damaged on the way", NULL},
    {"XAmzContentSHA256Mismatch", WA_UNAVAILABLE, "the bytes were damaged on the way", NULL},
    {"XAmzContentChecksumMismatch", WA_UNAVAILABLE, "the bytes were damaged on the way", NULL},
    {"RequestTimeout", WA_UNAVAILABLE, NULL, NULL},
    {"InternalError", WA_UNAVAILABLE, NULL, NULL},
    {"ServiceUnavailable", WA_UNAVAILABLE, NULL, NULL},
    {"TemporaryRedirect", WA_UNAVAILABLE, NULL, NULL},
    {"SlowDown", WA_UNAVAILABLE, "the server asks to slow down", NULL},
    {"OperationAborted", WA_UNAVAILABLE, NULL, NULL},
    {"ConditionalRequestConflict", WA_UNAVAILABLE, NULL, NULL},
};

static const meaning *
find_meaning(const char *code)
{
    for (size_t i = 0; i < WA_ARRAY_SIZE(meanings); i++)
        if (wa_str_eq(code, meanings[i].code))
            return &meanings[i];
    return NULL;
}

static wa_status
status_of_http(int status)
{
    switch (status) {
    case 401:
    case 403:
        return WA_DENIED;
    case 405:
    case 501:
        return WA_UNSUPPORTED;
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        return WA_UNAVAILABLE;
    case 409:
        return WA_CONFLICT;
    case 412:
        return WA_EXISTS;
    case 507:
        return WA_NO_SPACE;
    default:
        return status >= 300 && status < 500 ? WA_INVALID : WA_FAILED;
    }
}

wa_status
wa_s3_status_of_code(const char *code, int http_status)
{
    const meaning *known = find_meaning(code);
    return known != NULL ? known->status : status_of_http(http_status);
}

void
wa_s3_error_code(const wa_http_response *response, char code[static WA_S3_CODE])
{
    WA_CLEANUP(wa_freep)
    char *found = wa_xml_find(wa_buf_str(&response->body), response->body.len, "Error/Code");
    size_t len = found != NULL ? strlen(found) : 0;
    if (len >= WA_S3_CODE)
        len = WA_S3_CODE - 1;
    memcpy(code, len > 0 ? found : "", len);
    code[len] = '\0';
}

/* 404 counts as "not there" when an S3 server said so: with a code, or (HEAD) with its request id.
 */
static wa_status
judge_missing(const wa_s3_call *call, const wa_http_response *response)
{
    if (call->code[0] != '\0')
        return WA_NOT_FOUND;
    bool signed_off = wa_http_header(response, "x-amz-request-id") != NULL ||
                      wa_http_header(response, "x-amz-id-2") != NULL;
    return wa_str_eq(call->method, "HEAD") && signed_off ? WA_NOT_FOUND : WA_UNAVAILABLE;
}

/* The hints' %s is the access key ID. */
static void
add_hint(const wa_s3 *s3, const wa_s3_call *call, const meaning *known,
         const wa_http_response *response, const char *access_key, wa_error *err)
{
    const char *location = wa_http_header(response, "location");
    const char *region = wa_http_header(response, "x-amz-bucket-region");
    if (region != NULL && call->status != 403 && call->status != 404 && call->status < 500)
        (void)wa_error_hint(err, "Set s3_region = %s.", region);
    else if (known != NULL && known->hint != NULL && strstr(known->hint, "%s") != NULL) {
        const char *gap = strstr(known->hint, "%s");
        (void)wa_error_hint(err, "%.*s%s%s", (int)(gap - known->hint), known->hint, access_key,
                            gap + 2);
    } else if (known != NULL && known->hint != NULL)
        (void)wa_error_hint(err, "%s", known->hint);
    else if (location != NULL)
        (void)wa_error_hint(err,
                            "The server at s3_endpoint redirects to %s: set s3_endpoint to the S3 "
                            "server itself.",
                            location);
    else if (call->status == 404 && call->code[0] == '\0')
        (void)wa_error_hint(err, "The answer is not an S3 server's: check s3_endpoint (%s).",
                            s3->host != NULL ? s3->host : "AWS");
}

wa_status
wa_s3_judge(const wa_s3 *s3, const wa_s3_call *call, const wa_http_response *response,
            const char *access_key, wa_error *err)
{
    const meaning *known = find_meaning(call->code);
    wa_status status = known != NULL ? known->status : status_of_http(call->status);
    if (known == NULL && call->status == 404)
        status = judge_missing(call, response);
    WA_CLEANUP(wa_freep)
    char *message = wa_xml_find(wa_buf_str(&response->body), response->body.len, "Error/Message");
    const char *text = known != NULL && known->text != NULL ? known->text : message;
    const char *reason = call->code[0] != '\0' ? call->code : "no further reason";
    if (wa_str_empty(text))
        (void)wa_error_set(err, status, "the server answered %d (%s)", call->status, reason);
    else
        (void)wa_error_set(err, status, "%s (%d %s)", text, call->status, reason);
    add_hint(s3, call, known, response, access_key, err);
    return status;
}
