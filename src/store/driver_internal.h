/*
 * src/store/driver_internal.h - what a driver provides. Only the store layer's own files include
 * this.
 *
 * store.c checks keys and meta, counts requests, and calls through. Each slot keeps the contract of
 * its namesake in store.h. All slots are required but put_when, settle, draft, draft_write,
 * set_conditional and probe.
 *
 * list: store.c puts its own callback between: the driver passes every object and prefix that lies
 * under the prefix (it may leave out what is not behind `after`, store.c does so in any case) and
 * returns the callback's status as it is, WA_CANCELLED included.
 */
#ifndef WALAGENT_STORE_DRIVER_INTERNAL_H
#define WALAGENT_STORE_DRIVER_INTERNAL_H

#include "walagent/store/store.h"

#include <stdatomic.h>

typedef struct wa_store_ops {
    void (*free)(wa_store *store);
    wa_status (*put)(wa_store *store, const char *key, const wa_body *body, const char *meta,
                     wa_put_mode mode, wa_error *err);
    /* NULL: `ready`, then put. */
    wa_status (*put_when)(wa_store *store, const char *key, const wa_body *body, const char *meta,
                          wa_put_mode mode, wa_put_ready_fn ready, void *arg, wa_error *err);
    /* NULL: what is seen stays. */
    wa_status (*settle)(wa_store *store, const wa_strv *keys, wa_error *err); /* one at least */
    /* NULL: there are no drafts. */
    int (*draft)(wa_store *store);
    wa_status (*draft_write)(wa_store *store, int draft, uint64_t offset, const void *data,
                             size_t len, wa_error *err);
    /* tail: len last bytes, else [offset, offset+len). */
    wa_status (*get)(wa_store *store, const char *key, bool tail, uint64_t offset, uint64_t len,
                     wa_sink *to, uint64_t *ret_size, char **ret_meta, wa_error *err);
    wa_status (*head)(wa_store *store, const char *key, uint64_t *ret_size, wa_time *ret_modified,
                      char **ret_meta, wa_error *err);
    wa_status (*remove)(wa_store *store, const wa_strv *keys, wa_error *err);
    wa_status (*list)(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg,
                      wa_error *err);
    wa_status (*upload_begin)(wa_store *store, const char *key, const char *meta,
                              uint64_t part_size, wa_upload **ret, wa_error *err);
    wa_status (*upload_part)(wa_upload *upload, unsigned number, const void *data, size_t len,
                             wa_error *err);
    wa_status (*upload_commit)(wa_upload *upload, wa_error *err);
    void (*upload_free)(wa_upload *upload);
    wa_status (*abort_uploads)(wa_store *store, const char *prefix, wa_time before,
                               size_t *ret_count, wa_error *err);
    /* For a wrapper: hand the trait on to the store inside. NULL: there is none. */
    void (*set_conditional)(wa_store *store, bool conditional);
    /* For a wrapper of several stores, which are probed one by one. NULL: as a single one. */
    wa_status (*probe)(wa_store *store, const char *prefix, bool *ret_conditional, wa_error *err);
} wa_store_ops;

/* Drivers embed this first. */
struct wa_store {
    const wa_store_ops *ops;
    wa_store_traits traits;
    bool read_only;
    atomic_uint_fast64_t puts, gets, heads, lists, deletes;
};
struct wa_upload {
    wa_store *store;
    bool keeps; /* commit is EXISTS when the key is taken; S3 looks just before it replaces */
};
/* Before anything is written to a sink of wa_store_sink_new: finish is EXISTS when the key is taken
 * (an upload's `keeps`). */
void wa_store_sink_keep(wa_sink *sink);

/* Is this a key that store.h allows? */
bool wa_store_key_is_legal(const char *key);

/* Parts are numbered 1 .. WA_STORE_PARTS_MAX: file and mem take them all, with 2 MiB each an object
 * of 2 TiB; S3 takes fewer (s3_upload.c). */
#define WA_STORE_PARTS_MAX (1 << 20)

/* Which parts of an upload were written. All but the last have exactly part_size bytes. */
typedef struct wa_parts {
    uint64_t part_size;
    uint64_t *sizes; /* by number - 1; UINT64_MAX: not written */
    size_t count;    /* the highest number so far */
} wa_parts;
wa_status wa_parts_add(wa_parts *parts, const char *key, unsigned number, uint64_t len,
                       wa_error *err) WA_MUST_CHECK;
/* INVALID when a part is missing or short. */
wa_status wa_parts_check(const wa_parts *parts, const char *key, uint64_t *ret_size,
                         wa_error *err) WA_MUST_CHECK;

wa_status wa_store_file_open(const wa_store_options *options, wa_store **ret, wa_error *err);
wa_status wa_store_s3_open(const wa_store_options *options, wa_store **ret, wa_error *err);

#endif
