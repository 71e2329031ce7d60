/*
 * src/repo/wal_internal.h - what whole segments and tail chunks have in common.
 */
#ifndef WA_SRC_REPO_WAL_INTERNAL_H
#define WA_SRC_REPO_WAL_INTERNAL_H

#include "walagent/repo/wal_object.h"

/* The facts frame: the public facts, the system identifier, and "wal": what the WAL holds. Facts
 * that don't fit go to *ret_bulky (else NULL). facts may be NULL. */
json_t *wa_wal_facts_frame(const wa_repo *repo, const char *kind, const wa_wal_info *info,
                           const wa_wal_facts *facts, json_t **ret_bulky);
wa_status wa_wal_info_from_json(const json_t *json, const char *what, wa_wal_info *ret,
                                wa_error *err) WA_MUST_CHECK;
/* The container is of this kind and belongs to this place (branch, start LSN); fills ret from its
 * facts frame. */
wa_status wa_wal_check_place(const wa_container *c, const char *key, const char *kind,
                             const wa_branch *branch, wa_lsn start, wa_wal_info *ret,
                             wa_error *err) WA_MUST_CHECK;
/* NOT_FOUND: the object was written without them. */
wa_status wa_wal_container_facts(wa_container *c, const char *key, wa_wal_facts *ret,
                                 wa_error *err) WA_MUST_CHECK;
/* Public facts of an object: its meta, or its facts frame when a copy lost them. */
wa_status wa_wal_object_info(wa_repo *repo, const char *key, wa_wal_info *ret,
                             wa_error *err) WA_MUST_CHECK;
/* Keep `body` (a container) under quarantine/<branch>/<name>-<xxh3>.zst and write an event, the
 * event first: it is never missing. Kept already: OK without another event. */
wa_status wa_wal_quarantine_body(wa_repo *repo, const wa_branch *branch, const char *name,
                                 const wa_body *body, const wa_wal_info *info, const char *reason,
                                 char **ret_key, wa_error *err) WA_MUST_CHECK;

/* wa_tail_end that tells whether chunks went between a listing and a look at them, and whether all
 * chunks that it found the bytes in were checked (each output but the first may be NULL). */
wa_status wa_tail_end_again(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_lsn *ret_end,
                            wa_time *ret_modified, bool *ret_gone, bool *ret_checked,
                            wa_error *err) WA_MUST_CHECK;

/* As wa_wal_list, with `page` keys a request (0: the store's own). */
wa_status wa_wal_list_page(wa_repo *repo, const wa_branch *branch, wa_segno from, size_t page,
                           wa_wal_list_fn fn, void *arg, wa_error *err) WA_MUST_CHECK;
/* The first whole segment at or behind `from`: one request. */
wa_status wa_wal_next(wa_repo *repo, const wa_branch *branch, wa_segno from, bool *ret_found,
                      wa_segno *ret, wa_error *err) WA_MUST_CHECK;

#endif
