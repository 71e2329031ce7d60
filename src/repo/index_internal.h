/*
 * src/repo/index_internal.h - index objects and the plan of which ones answer for a range.
 */
#ifndef WA_SRC_REPO_INDEX_INTERNAL_H
#define WA_SRC_REPO_INDEX_INTERNAL_H

#include "ranges_internal.h"
#include "repo_internal.h"
#include "walagent/repo/index.h"

#define WA_INDEX_LINES_LEVEL 2 /* the highest level with a line a segment */
#define WA_INDEX_HOLES 64      /* kept in an object; with more it is not used */

typedef struct wa_index_object {
    int level;
    wa_segno first, end; /* what it speaks about: [first, end) */
    unsigned n;
    char *key;
    size_t parts;
    wa_wal_summary part[WA_INDEX_FANOUT];
    wa_segranges holes;
    bool holes_overflow;
} wa_index_object;
void wa_index_object_done(wa_index_object *o);

uint64_t wa_index_span(int level);      /* segments an object of the level is about */
uint64_t wa_index_part_span(int level); /* segments of one of its parts */
char *wa_index_prefix(wa_repo *repo, const wa_branch *branch, int level);
char *wa_index_key(wa_repo *repo, const wa_branch *branch, int level, wa_segno first, unsigned n);

/* One key of a level's listing. */
typedef struct wa_index_name {
    wa_segno first;
    unsigned n;
} wa_index_name;
/* Objects of a level about something in [from, to), ordered by first, then n. Caller frees. */
wa_status wa_index_list(wa_repo *repo, const wa_branch *branch, int level, wa_segno from,
                        wa_segno to, wa_index_name **ret, size_t *ret_count,
                        wa_error *err) WA_MUST_CHECK;
/* Facts of one object. CORRUPT, NOT_FOUND: not usable. */
wa_status wa_index_read(wa_repo *repo, const wa_branch *branch, int level, wa_segno first,
                        unsigned n, wa_index_object *ret, wa_error *err) WA_MUST_CHECK;
/* The same; from the cache when it was read before. */
wa_status wa_index_read_again(wa_repo *repo, const wa_branch *branch, int level, wa_segno first,
                              unsigned n, wa_index_object *ret, wa_error *err) WA_MUST_CHECK;
/* index_cache.c; the objects are copied. */
bool wa_index_cache_get(wa_index_cache *c, const char *key, wa_index_object *ret);
void wa_index_cache_put(wa_index_cache *c, const wa_index_object *o);
/* The facts of a whole segment, which is created once, too. */
void wa_index_cache_put_facts(wa_index_cache *c, const wa_branch *branch, wa_segno segno,
                              const wa_wal_facts *facts, bool checked);
bool wa_index_cache_facts(wa_index_cache *c, const wa_branch *branch, wa_segno segno,
                          wa_wal_facts *ret, bool *ret_checked);
/* What a listing of a level (by its prefix) showed of the blocks that begin in [begin, end). */
void wa_index_cache_put_names(wa_index_cache *c, const char *prefix, wa_segno begin, wa_segno end,
                              const wa_index_name *names, size_t count);
/* The names of the block at `first` then, a copy; there may be newer ones. False: not listed. */
bool wa_index_cache_names(wa_index_cache *c, const char *prefix, wa_segno first,
                          wa_index_name **ret, size_t *ret_count);
/* Its lines, raw, into a sink. */
wa_status wa_index_read_lines(wa_repo *repo, const wa_index_object *o, wa_sink *to,
                              wa_error *err) WA_MUST_CHECK;
/* A line to a segment's facts. */
wa_status wa_index_parse_line(const char *line, size_t len, const char *key, wa_segno *ret_segno,
                              bool *ret_checked, wa_wal_facts *ret_facts,
                              wa_error *err) WA_MUST_CHECK;
void wa_index_format_line(wa_segno segno, bool checked, const wa_wal_facts *facts, wa_buf *out);
/* The segments of `use`, all of which are there, by the object's lines and, where it has none, by
 * their own facts. */
wa_status wa_index_scan_object(wa_repo *repo, const wa_branch *branch, const wa_index_object *o,
                               wa_segrange use, wa_index_fn fn, void *arg,
                               wa_error *err) WA_MUST_CHECK;
json_t *wa_index_facts(const wa_branch *branch, const wa_index_object *o);
/* The valid object of highest n about the block that begins at first. NOT_FOUND: none. */
wa_status wa_index_find(wa_repo *repo, const wa_branch *branch, int level, wa_segno first,
                        wa_index_object *ret, wa_error *err) WA_MUST_CHECK;
/* The same by names that were listed before, as long as the object is about the whole block. One
 * listing brings many names: who enters a block often enters its neighbours next. There may be a
 * newer object that knows of holes which were filled since: for those who look at the holes of
 * each object. */
wa_status wa_index_find_again(wa_repo *repo, const wa_branch *branch, int level, wa_segno first,
                              wa_index_object *ret, wa_error *err) WA_MUST_CHECK;

/* Which objects answer for a range, highest levels first, and what no object speaks about. */
typedef struct wa_index_plan {
    wa_index_object *objects; /* ordered by first; they may overlap only in what they don't cover */
    wa_segrange *use;         /* the part of the range for which each one is used */
    size_t count, capacity;
    wa_segranges missing[WA_INDEX_LEVELS + 1]; /* [L]: not covered by levels >= L */
} wa_index_plan;
void wa_index_plan_done(wa_index_plan *p);
wa_status wa_index_plan_make(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to,
                             int highest, wa_index_plan *ret, wa_error *err) WA_MUST_CHECK;

/* What a coverage was loaded from, one a step of its lineage. */
typedef struct wa_coverage_index {
    size_t count;
    struct {
        wa_branch branch;
        wa_index_plan plan;
        wa_segno *chunked;     /* segments that have only chunks, in order */
        bool *chunked_checked; /* each of them: all its chunks */
        size_t chunked_count;
    } steps[];
} wa_coverage_index;

/* Whole segments of [from, to) that are there: index, verified holes, and listings of the rest.
 * ret_last (may be NULL): when the last of them was written. *ret_refilled (may be NULL): segments
 * in holes that the index still shows. */
wa_status wa_index_present(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to,
                           wa_index_plan *plan, wa_segranges *ret, wa_segranges *ret_refilled,
                           wa_time *ret_last, wa_error *err) WA_MUST_CHECK;
wa_status wa_index_any(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to,
                       bool *ret, wa_error *err) WA_MUST_CHECK;

#endif
