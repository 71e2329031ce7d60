/*
 * walagent/store/store.h - the object store: a flat name space of immutable-ish objects with public
 * facts.
 *
 * Drivers: file:// (directory), s3://, mem (tests), fault (tests; wraps another one).
 *
 * Keys: '/'-separated, printable ASCII [A-Za-z0-9._/=-], no leading slash, no empty component and
 * none that begins with a dot, at most 900 bytes; else INVALID. Public facts ("meta"): a JSON text
 * of at most 1 KiB of printable ASCII that head and get return with the object. On S3 user-metadata
 * x-amz-meta-wa (more than 255 bytes continue in x-amz-meta-wa-2 ...), on file:// a sibling
 * "<key>.meta" made durable first (so ".meta" is no legal end of a component). A key is never also
 * the directory of other keys ("a" and "a/b"): file:// refuses the second one with INVALID.
 *
 * Guarantees:
 *   (1) put returned OK: the object is durable and whole; a failed put leaves no partial object
 * under the key (it may, after UNAVAILABLE, appear whole later). (2) WA_PUT_CREATE never replaces:
 * EXISTS when the key is taken. Where conditional_put is false, the driver looks before it writes,
 * and that is said in wa_store_traits. When our own retried PUT meets its first try (412), the
 * driver compares size and meta and content checksum and answers OK. (3) NOT_FOUND is a positive
 * answer of the store; every failure to find out is something else: on file:// a root directory
 * that is missing (a file system that is not mounted) is UNAVAILABLE for every read and listing;
 * put, upload and wa_store_probe create it, unless this store saw it before. A directory other than
 * the one in which the store first met an object (an empty mount point) is UNAVAILABLE for every
 * call. (4) EXISTS from file:// is said of a durable object. Threads: all calls from any
 * thread; the driver keeps a connection per concurrent call (pool, at most 32). Deadlines: every
 * call ends within the store's budget (options), or when cancelled. Errors: NOT_FOUND, EXISTS,
 * UNAVAILABLE (budget spent), DENIED, CORRUPT, NO_SPACE, CANCELLED, INVALID, UNSUPPORTED; messages
 * name the key and the store's URL.
 */
#ifndef WALAGENT_STORE_STORE_H
#define WALAGENT_STORE_STORE_H

#include "walagent/base/buf.h"
#include "walagent/base/cancel.h"
#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/base/str.h"
#include "walagent/base/time.h"
#include "walagent/codec/stream.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct wa_store wa_store;

typedef enum wa_put_mode { WA_PUT_CREATE, WA_PUT_REPLACE } wa_put_mode;

/* What is written: memory, or a range of a file. A file that isn't a draft of the store was synced
 * by the caller: what the kernel couldn't write of it may read as something else. */
typedef struct wa_body {
    const void *data; /* or NULL: fd */
    uint64_t len;
    int fd;
    uint64_t offset;
} wa_body;

typedef struct wa_object {
    const char *key;
    uint64_t size;
    wa_time modified;
    const char *etag; /* may be NULL */
    const char *meta; /* public facts; NULL in listings */
} wa_object;

typedef struct wa_store_traits {
    const char *scheme;   /* "file", "s3", "mem" */
    const char *url;      /* for people; no secrets */
    bool conditional_put; /* create-only is atomic at the store (S3: what the probe found) */
    bool multipart;       /* uploads of unknown size go in parts */
    uint64_t part_size;   /* suggested bytes of a part */
    size_t parallel;      /* suggested concurrent transfers */
} wa_store_traits;

/* Everything a driver may need; strings borrowed during open. */
typedef struct wa_store_options {
    const char *url; /* file:///path, s3://bucket/prefix, mem:// */
    const char *s3_endpoint, *s3_region, *s3_addressing;
    const char *s3_access_key_id, *s3_secret_access_key, *s3_session_token, *s3_profile;
    const char *s3_ca_file, *s3_storage_class, *s3_sse, *s3_sse_kms_key_id;
    bool s3_insecure;   /* s3_verify_tls = off */
    uint64_t budget_ms; /* of one call with its retries; 0: 60 s */
    wa_cancel *cancel;  /* ends every call; may be NULL */
} wa_store_options;

wa_status wa_store_open(const wa_store_options *options, wa_store **ret,
                        wa_error *err) WA_MUST_CHECK;
void wa_store_free(wa_store *store);
WA_DEFINE_CLEANUP(wa_store, wa_store_free)
const wa_store_traits *wa_store_get_traits(const wa_store *store);
/* From now on every write is DENIED. */
void wa_store_make_read_only(wa_store *store);
bool wa_store_is_read_only(const wa_store *store);

/* meta may be NULL. */
wa_status wa_store_put(wa_store *store, const char *key, const wa_body *body, const char *meta,
                       wa_put_mode mode, wa_error *err) WA_MUST_CHECK;
/* The same; `ready` is called, at most once, when nothing is left but to make the object visible:
 * file:// has written and synced its bytes by then, other drivers begin afterwards. Not OK: nothing
 * becomes visible, and that is the answer. Not called when the call fails before (EXISTS too). */
typedef wa_status (*wa_put_ready_fn)(void *arg, wa_error *err);
wa_status wa_store_put_when(wa_store *store, const char *key, const wa_body *body, const char *meta,
                            wa_put_mode mode, wa_put_ready_fn ready, void *arg,
                            wa_error *err) WA_MUST_CHECK;
/* Objects that were seen stay after a power failure, also those whose writer died before it had
 * seen to that: file:// syncs their directories (each once where its keys follow each other), other
 * stores show nothing that they may lose. For one who acknowledges what another wrote. Writes
 * nothing but what a mirror lacks; file:// says NOT_FOUND when one of them is gone. */
wa_status wa_store_settle(wa_store *store, const wa_strv *keys, wa_error *err) WA_MUST_CHECK;
/*
 * A file without a name in the store, for an object whose bytes come piece by piece: they are on
 * their way to the disk before the last one is known, and a put whose body is all of it makes it
 * the object, without a copy. A descriptor, the caller's; nothing is left of it when that is closed
 * or the process ends. -1: the store has none (only file:// has, on most file systems). It is
 * written by wa_store_draft_write alone (put's errors), and after a put no more. It is created in
 * the root directory and has what that hands down: where a directory below is setgid with another
 * group it is copied, but a default ACL is not looked at, so those belong on the root.
 */
int wa_store_draft(wa_store *store);
wa_status wa_store_draft_write(wa_store *store, int draft, uint64_t offset, const void *data,
                               size_t len, wa_error *err) WA_MUST_CHECK;
/* [offset, offset+len), or to the end when len is UINT64_MAX; shorter when the object ends before;
 * INVALID when a non-zero offset lies at or behind the end. ret_meta ("" when none): owned by the
 * caller; may be NULL (not wanted). Appends to ret, whose cap bounds it (NO_SPACE). */
wa_status wa_store_get(wa_store *store, const char *key, uint64_t offset, uint64_t len, wa_buf *ret,
                       char **ret_meta, wa_error *err) WA_MUST_CHECK;
/* The last `len` bytes (all, if smaller) and the object's size, in one request. */
wa_status wa_store_get_tail(wa_store *store, const char *key, uint64_t len, wa_buf *ret,
                            uint64_t *ret_size, char **ret_meta, wa_error *err) WA_MUST_CHECK;
/* Whole object into a sink (not finished); bytes may come in any portions. Not retried after the
 * first byte was delivered: a driver resumes with a range instead. */
wa_status wa_store_get_to(wa_store *store, const char *key, wa_sink *to,
                          wa_error *err) WA_MUST_CHECK;
/* A range (as get's) into a sink that is not finished. */
wa_status wa_store_get_range_to(wa_store *store, const char *key, uint64_t offset, uint64_t len,
                                wa_sink *to, wa_error *err) WA_MUST_CHECK;
/* ret_meta: owned by the caller ("" when none); each output may be NULL. */
wa_status wa_store_head(wa_store *store, const char *key, uint64_t *ret_size, wa_time *ret_modified,
                        char **ret_meta, wa_error *err) WA_MUST_CHECK;
/* Missing keys are fine. Batched (1,000 a request). All are tried; the first failure is reported.
 */
wa_status wa_store_delete(wa_store *store, const wa_strv *keys, wa_error *err) WA_MUST_CHECK;

/* Called per object (prefixes: object->key ends in '/', size 0) in key order (bytes). A prefix is
 * reported only when an object lies below it. Any status but OK
 * ends the listing and is returned; WA_CANCELLED with an untouched err is "enough", and list
 * returns OK. */
typedef wa_status (*wa_list_fn)(void *arg, const wa_object *object, wa_error *err);
typedef struct wa_list_options {
    const char *prefix;
    bool delimited;    /* one level only, deeper ones as prefixes */
    const char *after; /* only keys and prefixes behind this one; may be NULL */
    size_t page;       /* keys a request; 0: 1,000. A small page makes "the first few" cheap. */
} wa_list_options;
wa_status wa_store_list(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg,
                        wa_error *err) WA_MUST_CHECK;

/* An upload in parts, several at a time from several threads. S3: multipart; file://: pwrite into a
 * temporary file. Visible only after commit, which replaces what is there (S3 has no conditional
 * Complete that all servers honour): what must be created once goes through put. Number n is
 * 1-based; on S3 there are at most 10,000 (else NO_SPACE), and all but the last have at least 5
 * MiB; elsewhere there are up to 2^20 (else INVALID), their offsets follow from part_size, and all
 * but the last have exactly part_size bytes. */
typedef struct wa_upload wa_upload;
wa_status wa_upload_begin(wa_store *store, const char *key, const char *meta, uint64_t part_size,
                          wa_upload **ret, wa_error *err) WA_MUST_CHECK;
wa_status wa_upload_part(wa_upload *upload, unsigned number, const void *data, size_t len,
                         wa_error *err) WA_MUST_CHECK;
wa_status wa_upload_commit(wa_upload *upload, wa_error *err) WA_MUST_CHECK;
void wa_upload_free(wa_upload *upload); /* aborts unless committed */
WA_DEFINE_CLEANUP(wa_upload, wa_upload_free)
/* Abort uploads under the prefix that were begun before `before` (what killed processes left).
 * ret_count may be NULL. */
wa_status wa_store_abort_uploads(wa_store *store, const char *prefix, wa_time before,
                                 size_t *ret_count, wa_error *err) WA_MUST_CHECK;

/* A sink that uploads what is written as the object `key`: one PUT (which replaces) when it fits
 * into one part, an upload in parts (sent by `threads` own threads; 0: by the writer) otherwise.
 * finish makes it visible. Memory: at most part_size x (threads + 1). key and meta are copied. */
wa_status wa_store_sink_new(wa_store *store, const char *key, const char *meta, size_t threads,
                            wa_sink **ret, wa_error *err) WA_MUST_CHECK;
/* Parts of another size than the store suggests; before anything is written. S3 takes at most
 * 10,000, of at least 5 MiB. */
void wa_store_sink_set_part_size(wa_sink *sink, size_t part_size);
/* Random access to an object (one ranged get a read). When size is UINT64_MAX, it comes with the
 * object's last 64 KiB in one request, and these are not asked for again. */
wa_status wa_store_ranges(wa_store *store, const char *key, uint64_t size, wa_ranges **ret,
                          wa_error *err) WA_MUST_CHECK;
/* Bytes that these ranges (of wa_store_ranges) have got from the store, the kept end once. */
uint64_t wa_store_ranges_fetched(const wa_ranges *ranges);

/* Does the store honour If-None-Match? Writes, re-writes and removes a probe object under
 * prefix + "probe-..." (a prefix ends in '/' or is ""); sets traits.conditional_put, so call it
 * before other threads use the store. */
wa_status wa_store_probe(wa_store *store, const char *prefix, bool *ret_conditional,
                         wa_error *err) WA_MUST_CHECK;
/* What was found earlier (recorded at init). */
void wa_store_set_conditional(wa_store *store, bool conditional);
/* Requests made so far by kind ("put", "get", "head", "list", "delete"), for metrics and tests. */
uint64_t wa_store_requests(const wa_store *store, const char *kind);

#endif
