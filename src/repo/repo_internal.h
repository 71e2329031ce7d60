/*
 * src/repo/repo_internal.h - what the files of the repo layer share: small objects with a checked
 * content identity, key parts, parallel requests, and sinks.
 */
#ifndef WA_SRC_REPO_REPO_INTERNAL_H
#define WA_SRC_REPO_REPO_INTERNAL_H

#include "walagent/codec/json.h"
#include "walagent/codec/stream.h"
#include "walagent/repo/backup_object.h"
#include "walagent/repo/lineage.h"
#include "walagent/repo/repo.h"

#define WA_SMALL_MAX (4u * 1024 * 1024) /* JSON objects and histories: what a reader accepts */
#define WA_META_MAX 1024u               /* public facts */
#define WA_NUMBER_TEXT 9                /* 8 upper-case hexadecimal digits */

/* Highest number of a numbered object seen by this process; only ever raised. */
uint64_t wa_repo_lineage_seen(const wa_repo *repo);
/* index_cache.c: facts of index objects that were read. */
typedef struct wa_index_cache wa_index_cache;
wa_index_cache *wa_index_cache_new(void);
void wa_index_cache_free(wa_index_cache *c);
wa_index_cache *wa_repo_index_cache(wa_repo *repo);
void wa_repo_lineage_saw(wa_repo *repo, uint64_t number);

/* "T<rfc 3339>" members of our own JSON. CORRUPT names key and document. */
wa_status wa_repo_json_time(const json_t *obj, const char *key, const char *what, wa_time *ret,
                            wa_error *err) WA_MUST_CHECK;
void wa_repo_json_set_time(json_t *obj, const char *key, wa_time t); /* NONE: null */
wa_status wa_repo_json_lsn(const json_t *obj, const char *key, const char *what, wa_lsn *ret,
                           wa_error *err) WA_MUST_CHECK; /* "X/X" */
void wa_repo_json_set_lsn(json_t *obj, const char *key, wa_lsn lsn);
wa_status wa_repo_json_branch(const json_t *obj, const char *key, const char *what, wa_branch *ret,
                              wa_error *err) WA_MUST_CHECK;
void wa_repo_json_set_branch(json_t *obj, const char *key, const wa_branch *branch);

/* Small objects: create-only, public facts {"v":1,"kind":...,"writer":...,"raw":n,"xxh3":...}. */
wa_status wa_object_put(wa_repo *repo, const char *key, const char *kind, const void *data,
                        size_t len, wa_error *err) WA_MUST_CHECK;
/* The same, and OK when the object is there with these bytes; EXISTS with other ones. */
wa_status wa_object_put_same(wa_repo *repo, const char *key, const char *kind, const void *data,
                             size_t len, wa_error *err) WA_MUST_CHECK;
/* Replaces ret's content. CORRUPT when the bytes aren't those of the public facts. */
wa_status wa_object_get(wa_repo *repo, const char *key, wa_buf *ret, wa_error *err) WA_MUST_CHECK;
wa_status wa_object_put_json(wa_repo *repo, const char *key, const char *kind, const json_t *json,
                             wa_error *err) WA_MUST_CHECK;
/* The same with "time" and "writer" added, for what is said once and for all: when an earlier try
 * got this far that is fine. ret_created (may be NULL): whether this call wrote it. */
wa_status wa_object_put_note(wa_repo *repo, const char *key, const char *kind, json_t *json,
                             bool *ret_created, wa_error *err) WA_MUST_CHECK;
wa_status wa_object_get_json(wa_repo *repo, const char *key, json_t **ret,
                             wa_error *err) WA_MUST_CHECK;
wa_status wa_object_delete(wa_repo *repo, const char *key, wa_error *err) WA_MUST_CHECK;
/* False: positively absent. */
wa_status wa_object_exists(wa_store *store, const char *key, bool *ret,
                           wa_error *err) WA_MUST_CHECK;

/* Keys below a prefix ("dir/"); sorted as the store gives them. `after` may be NULL. */
wa_status wa_repo_list(wa_repo *repo, const char *prefix, bool delimited, const char *after,
                       wa_strv *ret, wa_error *err) WA_MUST_CHECK;
/* The last path component of a key, a trailing '/' cut off; a new string. */
char *wa_key_tail(const char *key);
/* "<8 hex><suffix>" as a number; false for anything else. */
bool wa_key_number(const char *key, const char *suffix, uint64_t *ret);

/* A document of lineage/ (without its number), and one line of a backup's files.zst. */
json_t *wa_lineage_to_json(const wa_lineage *l);
wa_status wa_lineage_from_json(const json_t *json, const char *what, wa_lineage **ret,
                               wa_error *err) WA_MUST_CHECK;
wa_status wa_backup_file_parse(const char *line, size_t len, const char *what, wa_backup_file_fn fn,
                               void *arg, wa_error *err) WA_MUST_CHECK;
/* The same without a JSON library, for the lines that are as wa_backup_file_line writes most of
 * them. False: not such a line, or not a valid one. */
#define WA_PLAIN_PATH 1024
bool wa_backup_file_plain(const char *line, size_t len, char path[static WA_PLAIN_PATH],
                          wa_backup_file *ret);

/* Run fn for 0..count-1, several at a time. The failure with the lowest index is reported. */
typedef wa_status (*wa_each_fn)(void *arg, size_t index, wa_error *err);
wa_status wa_repo_each(wa_repo *repo, size_t count, wa_each_fn fn, void *arg,
                       wa_error *err) WA_MUST_CHECK;

/* A sink that calls fn with each line, without its newline. finish delivers the last one. A line
 * above `max` bytes: CORRUPT. */
typedef wa_status (*wa_line_fn)(void *arg, const char *line, size_t len, wa_error *err);
wa_sink *wa_sink_to_lines(size_t max, const char *name, wa_line_fn fn, void *arg);

/* A sink that keeps bytes in memory up to `limit`, then in a nameless file of `dir`. */
typedef struct wa_spill wa_spill;
wa_spill *wa_spill_new(size_t limit, const char *dir);
/* Before anything is written: where the store has drafts the bytes go into one of them. */
void wa_spill_into(wa_spill *s, wa_store *store);
wa_sink *wa_spill_sink(wa_spill *s);
/* What was written, for a put: valid while s lives and nothing more is written. A file of our own
 * is synced first: else nobody would hear of what the kernel couldn't write of it. */
wa_status wa_spill_body(wa_spill *s, wa_body *ret, wa_error *err) WA_MUST_CHECK;
void wa_spill_free(wa_spill *s);
WA_DEFINE_CLEANUP(wa_spill, wa_spill_free)

/* Random access to an object whose end comes with one request. *ret_meta: the caller's. */
wa_status wa_repo_open_end(wa_repo *repo, const char *key, wa_ranges **ret, char **ret_meta,
                           wa_error *err) WA_MUST_CHECK;

#endif
