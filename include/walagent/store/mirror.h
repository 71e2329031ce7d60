/*
 * walagent/store/mirror.h - one main store and its mirrors behind the interface of a single store.
 *
 * The main store alone says who won a name; a mirror holds the same bytes under the same keys, so
 * that it can take the main one's place.
 *
 * Guarantees:
 *   (1) put and commit returned OK: every member has the object. EXISTS is the main store's answer,
 *       passed on when every mirror has what the main store has (it is copied where it is missing).
 *   (2) a mirror is never made different: what it has under a key with other bytes than the main
 *       store's ends the call with FAILED, naming mirror and key (not CONFLICT, which says who
 *       won). Nothing leaves a mirror but by a delete.
 *   (3) a strict store (for whoever acknowledges on what it reads) reads from the main store, and
 *       shows only what every mirror has: what a crash left in the main one is copied first.
 *   (4) one that is not strict reads an object from the first mirror that has it when the main
 *       store fails with UNAVAILABLE, DENIED, CORRUPT or IO, and counts that. NOT_FOUND is said by
 *       the main store only; listings come from it too unless a fallback was asked for, and never
 *       from two stores.
 *
 * Errors:    before the first write to a mirror (and the first strict read) in a process, it must
 *            have the object that wa_store_mirror_require names: else FAILED, for it can come; with
 *            other bytes INVALID.
 * Threads:   as the store's; the settings below before other threads use it.
 */
#ifndef WALAGENT_STORE_MIRROR_H
#define WALAGENT_STORE_MIRROR_H

#include "walagent/store/store.h"

typedef struct wa_mirror {
    wa_store *store;
    const char *name; /* for messages; copied */
} wa_mirror;

/* Takes the stores. count is at least 1. */
wa_store *wa_store_mirror_new(wa_store *main_store, const wa_mirror *mirrors, size_t count);

/* On a store without mirrors these do nothing. */
void wa_store_mirror_be_strict(wa_store *store);
void wa_store_mirror_list_anywhere(wa_store *store); /* lists fall back, too */
void wa_store_mirror_require(wa_store *store, const char *key);

/* 1 without mirrors. Member 0 is the main store (or the store itself). Borrowed. */
size_t wa_store_members(const wa_store *store);
wa_store *wa_store_member(wa_store *store, size_t i);
/* The main store has conditional PUT and mirror i has not: it is looked at before each write. */
bool wa_store_mirror_looks_first(wa_store *store, size_t i);

typedef struct wa_member_status {
    char name[64]; /* "" for the main store */
    char url[256];
    bool up;              /* its last call was answered; true before the first */
    uint64_t served;      /* reads that this mirror answered in the main store's place */
    uint64_t copied;      /* objects brought from the main store after the fact */
    char last_error[512]; /* "": none yet */
    wa_time last_error_time;
} wa_member_status;
void wa_store_member_status(const wa_store *store, size_t i, wa_member_status *ret);
/* A caller that knows better than the store (damage that only shows inside an object) read mirror i
 * in the main store's place. */
void wa_store_mirror_count_served(wa_store *store, size_t i);
/* Reads and listings so far that mirrors answered; the listings alone. */
uint64_t wa_store_mirror_served(const wa_store *store);
uint64_t wa_store_mirror_listed(const wa_store *store);
/* The main store, although it did not answer a moment ago. */
void wa_store_mirror_ask_main(wa_store *store);

/* Bring every mirror what the main store has under this key. NOT_FOUND: nothing. */
wa_status wa_store_mirror_complete(wa_store *store, const char *key, wa_error *err) WA_MUST_CHECK;
/* The mirror i has the object with the main store's bytes (checked in full, or by the identity in
 * its public facts). */
wa_status wa_store_mirror_has(wa_store *store, size_t i, const char *key, bool *ret,
                              wa_error *err) WA_MUST_CHECK;
/* One object from the main store to mirror i, if it is missing there. */
wa_status wa_store_mirror_copy(wa_store *store, size_t i, const char *key, bool *ret_copied,
                               wa_error *err) WA_MUST_CHECK;

#endif
