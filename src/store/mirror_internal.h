/*
 * src/store/mirror_internal.h - the parts of the store with mirrors.
 */
#ifndef WA_SRC_STORE_MIRROR_INTERNAL_H
#define WA_SRC_STORE_MIRROR_INTERNAL_H

#include "driver_internal.h"

#include "walagent/base/thread.h"
#include "walagent/store/mirror.h"

#define WA_MIRROR_KNOWN 4096 /* keys remembered to be in every mirror */

typedef struct wa_mirror_member {
    wa_store *store;
    char *name;        /* "" for the main store */
    atomic_bool ready; /* it has the required object */
    atomic_bool has;   /* it has one under that name */
    bool conditional;  /* its own probe saw that it refuses to replace */
    bool up;           /* this and what follows: guarded by the mutex */
    bool unfit;        /* without the required object, or with another one */
    uint64_t served, listed, copied;
    wa_error last_error;
    wa_time last_error_time;
} wa_mirror_member;

typedef struct wa_mirror_store {
    wa_store base;
    wa_mirror_member *members; /* [0]: the main store */
    size_t count;
    bool strict, list_anywhere;
    char *required; /* NULL: nothing */
    wa_mutex mutex;
    char *known[WA_MIRROR_KNOWN]; /* by hash of the key */
    wa_mono away_until;           /* the main store is not asked first before */
} wa_mirror_store;

/* Passes bytes on and counts them. */
typedef struct wa_tally {
    wa_sink base;
    wa_sink *to;
    uint64_t passed;
    bool broken; /* `to` failed: no store is to blame */
} wa_tally;
void wa_tally_init(wa_tally *tally, wa_sink *to);

/* ---- mirror.c ---- */
/* Keeps account of a member's answer. Returns the status, wrapped with the mirror's name. */
wa_status wa_mirror_note(wa_mirror_store *m, size_t i, wa_status status, wa_error *err);
/* Of a write: that a mirror "has not" what it is to take is no word about the object. */
wa_status wa_mirror_note_write(wa_mirror_store *m, size_t i, wa_status status, wa_error *err);
/* The mirror may be written to, and be relied on. */
wa_status wa_mirror_ready(wa_mirror_store *m, size_t i, wa_error *err);
bool wa_mirror_may_fall_back(wa_status status);
/* Complete enough to answer in the main store's place, which can't be asked about it. */
bool wa_mirror_may_serve(wa_mirror_store *m, size_t i);
void wa_mirror_count_served(wa_mirror_store *m, size_t i, bool listing);

/* ---- mirror_copy.c ---- */
bool wa_mirror_knows(wa_mirror_store *m, const char *key);
void wa_mirror_remember(wa_mirror_store *m, const char *key);
void wa_mirror_forget(wa_mirror_store *m, const char *key);
/* FAILED unless mirror i has the main store's bytes under this key. NOT_FOUND: the main store
 * hasn't it. Mending: what is missing, its public facts, and other bytes of a cache are written. */
wa_status wa_mirror_mend(wa_mirror_store *m, size_t i, const char *key, wa_error *err);
/* Writes nothing; not ret: it is missing there, or a cache with other bytes. */
wa_status wa_mirror_compare(wa_mirror_store *m, size_t i, const char *key, bool *ret,
                            wa_error *err);
/* What the main store has, it being missing in mirror i. NOT_FOUND: the main store hasn't it. */
wa_status wa_mirror_bring(wa_mirror_store *m, size_t i, const char *key, wa_error *err);
/* Of a comparison or a copy: damage in a member is its trouble, and no word about who wrote what.
 */
wa_status wa_mirror_judged(wa_status status, wa_error *err);
/* What mirror i has of them lasts (wa_store_settle); what it lacks is copied, since that an object
 * is gone is the main store's word alone. NOT_FOUND: it hasn't it. */
wa_status wa_mirror_settle(wa_mirror_store *m, size_t i, const wa_strv *keys, wa_error *err);
/* In every mirror, with the main store's bytes; copied where it is missing.
 * NOT_FOUND: the main store hasn't it (any more). */
wa_status wa_mirror_everywhere(wa_mirror_store *m, const char *key, wa_error *err);

/* ---- mirror_list.c ---- */
wa_status wa_mirror_list(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg,
                         wa_error *err);

/* ---- mirror_get.c ---- */
/* A main store that did not answer is asked last for a while; never by a strict store. */
bool wa_mirror_is_away(wa_mirror_store *m);
void wa_mirror_set_away(wa_mirror_store *m, wa_status status);
wa_status wa_mirror_get(wa_store *store, const char *key, bool tail, uint64_t offset, uint64_t len,
                        wa_sink *to, uint64_t *ret_size, char **ret_meta, wa_error *err);
wa_status wa_mirror_head(wa_store *store, const char *key, uint64_t *ret_size,
                         wa_time *ret_modified, char **ret_meta, wa_error *err);

#endif
