/*
 * src/repo/index_object.c - one index object: its facts frame and its lines.
 *
 *   index/<TLI8>-<id8>/<LEVEL>/<FIRST24>-<N4>.zst      container, kind "index"
 *   facts: {"branch":"...","level":L,"first":segno,"end":segno,
 *           "parts":[{"n":segments,"r":records,"c":commits,"a":aborts,"p":restore points,
 *                     "k":checkpoints,"t0":min,"t1":max,"tl":last (times, microseconds since 2000,
 *                     left out when there is none),"x":[min xid,max xid] ([]: no xid; missing:
 *                     unknown),"ok":checked,"of":overflow},...],
 *           "x0","x1": what versions before "x" wrote, unsigned: right about one segment only
 *           "holes":[[first,end],...],"more_holes":bool}
 *   content, levels 0 to 2: {"n":segno,"ok":checked,"f":{facts of walfacts.h}} a line and segment
 */
#include "index_internal.h"

#include "repo_internal.h"
#include "wal_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
wa_wal_summary_init(wa_wal_summary *s)
{
    *s = (wa_wal_summary){.min_time = WA_TIME_NONE,
                          .max_time = WA_TIME_NONE,
                          .last_time = WA_TIME_NONE,
                          .checked = true};
}

static void
add_xids(wa_wal_summary *s, uint32_t min, uint32_t max)
{
    if (min != 0 && !wa_xid_range_add(&s->min_xid, &s->max_xid, min, max))
        s->xids_unknown = true;
}

void
wa_wal_summary_add(wa_wal_summary *s, const wa_wal_summary *later)
{
    s->segments += later->segments;
    s->records += later->records;
    s->commits += later->commits;
    s->aborts += later->aborts;
    s->restore_points += later->restore_points;
    s->checkpoints += later->checkpoints;
    s->checked = s->checked && later->checked;
    s->overflow = s->overflow || later->overflow;
    if (later->last_time != WA_TIME_NONE) {
        if (s->min_time == WA_TIME_NONE || later->min_time < s->min_time)
            s->min_time = later->min_time;
        if (s->max_time == WA_TIME_NONE || later->max_time > s->max_time)
            s->max_time = later->max_time;
        s->last_time = later->last_time;
    }
    add_xids(s, later->min_xid, later->max_xid);
    s->xids_unknown = s->xids_unknown || later->xids_unknown;
}

void
wa_wal_summary_add_facts(wa_wal_summary *s, const wa_wal_facts *facts, bool checked)
{
    wa_wal_summary one = {.segments = 1,
                          .records = facts->records,
                          .commits = facts->commits,
                          .aborts = facts->aborts,
                          .restore_points = facts->restore_point_count,
                          .checkpoints = facts->checkpoint_count,
                          .min_time = facts->min_time,
                          .max_time = facts->max_time,
                          .last_time = facts->last_time,
                          .min_xid = facts->min_xid,
                          .max_xid = facts->max_xid,
                          .xids_unknown = facts->min_xid == 0 && facts->commits + facts->aborts > 0,
                          .checked = checked,
                          .overflow = facts->overflow};
    wa_wal_summary_add(s, &one);
}

void
wa_index_object_done(wa_index_object *o)
{
    free(o->key);
    wa_segranges_done(&o->holes);
    *o = (wa_index_object){0};
}

uint64_t
wa_index_part_span(int level)
{
    return UINT64_C(1) << (4 * level);
}

uint64_t
wa_index_span(int level)
{
    return wa_index_part_span(level + 1);
}

char *
wa_index_prefix(wa_repo *repo, const wa_branch *branch, int level)
{
    char text[WA_BRANCH_TEXT];
    return wa_repo_key(repo, "index/%s/%d/", wa_branch_format(branch, text), level);
}

/* n 0: without its end, which sorts before all of the block's. */
char *
wa_index_key(wa_repo *repo, const wa_branch *branch, int level, wa_segno first, unsigned n)
{
    char name[WA_SEGMENT_NAME];
    WA_CLEANUP(wa_freep) char *prefix = wa_index_prefix(repo, branch, level);
    wa_segment_name(branch->tli, first, wa_repo_cluster(repo)->segment_size, name);
    return n == 0 ? wa_format("%s%s", prefix, name) : wa_format("%s%s-%04X.zst", prefix, name, n);
}

static void
set_time(json_t *json, const char *key, wa_time t)
{
    if (t != WA_TIME_NONE)
        wa_json_set_i64(json, key, t);
}

static void
set_xids(json_t *json, const wa_wal_summary *s)
{
    if (s->xids_unknown)
        return;
    json_t *range = json_array();
    if (s->min_xid != 0) {
        json_array_append_new(range, json_integer(s->min_xid));
        json_array_append_new(range, json_integer(s->max_xid));
    }
    wa_json_set(json, "x", range);
}

static bool
is_xid(json_int_t value)
{
    return value > 0 && value <= UINT32_MAX;
}

/* Whatever isn't a range is unknown. */
static void
get_xids(const json_t *json, wa_wal_summary *s)
{
    const json_t *range = json_object_get(json, "x");
    json_int_t min = json_integer_value(json_array_get(range, 0));
    json_int_t max = json_integer_value(json_array_get(range, 1));
    if (range == NULL && s->segments == 1) {
        min = json_integer_value(json_object_get(json, "x0"));
        max = json_integer_value(json_object_get(json, "x1"));
    }
    bool empty = json_is_array(range) && json_array_size(range) == 0;
    s->xids_unknown = !empty && s->segments > 0;
    if (!empty && is_xid(min) && is_xid(max))
        s->xids_unknown = !wa_xid_range_add(&s->min_xid, &s->max_xid, (uint32_t)min, (uint32_t)max);
}

static json_t *
summary_to_json(const wa_wal_summary *s)
{
    json_t *json = json_object();
    wa_json_set_u64(json, "n", s->segments);
    if (s->segments == 0)
        return json;
    wa_json_set_u64(json, "r", s->records);
    wa_json_set_u64(json, "c", s->commits);
    wa_json_set_u64(json, "a", s->aborts);
    wa_json_set_u64(json, "p", s->restore_points);
    wa_json_set_u64(json, "k", s->checkpoints);
    set_time(json, "t0", s->min_time);
    set_time(json, "t1", s->max_time);
    set_time(json, "tl", s->last_time);
    set_xids(json, s);
    wa_json_set_bool(json, "ok", s->checked);
    wa_json_set_bool(json, "of", s->overflow);
    return json;
}

static wa_status
summary_from_json(const json_t *json, const char *key, wa_wal_summary *ret, wa_error *err)
{
    wa_wal_summary s;
    wa_wal_summary_init(&s);
    WA_TRY(wa_json_get_u64(json, "n", key, &s.segments, err));
    s.records = wa_json_u64_or(json, "r", 0);
    s.commits = wa_json_u64_or(json, "c", 0);
    s.aborts = wa_json_u64_or(json, "a", 0);
    s.restore_points = wa_json_u64_or(json, "p", 0);
    s.checkpoints = wa_json_u64_or(json, "k", 0);
    s.min_time = wa_json_i64_or(json, "t0", WA_TIME_NONE);
    s.max_time = wa_json_i64_or(json, "t1", WA_TIME_NONE);
    s.last_time = wa_json_i64_or(json, "tl", WA_TIME_NONE);
    get_xids(json, &s);
    s.checked = wa_json_bool_or(json, "ok", true);
    s.overflow = wa_json_bool_or(json, "of", false);
    *ret = s;
    return WA_OK;
}

json_t *
wa_index_facts(const wa_branch *branch, const wa_index_object *o)
{
    json_t *json = json_object();
    wa_json_set_string(json, "kind", "index");
    wa_repo_json_set_branch(json, "branch", branch);
    wa_json_set_i64(json, "level", o->level);
    wa_json_set_u64(json, "first", o->first);
    wa_json_set_u64(json, "end", o->end);
    json_t *parts = json_array(), *holes = json_array();
    for (size_t i = 0; i < o->parts; i++)
        json_array_append_new(parts, summary_to_json(&o->part[i]));
    size_t kept = o->holes.count > WA_INDEX_HOLES ? 0 : o->holes.count;
    for (size_t i = 0; i < kept; i++)
        json_array_append_new(holes, json_pack("[I,I]", (json_int_t)o->holes.items[i].begin,
                                               (json_int_t)o->holes.items[i].end));
    wa_json_set(json, "parts", parts);
    wa_json_set(json, "holes", holes);
    wa_json_set_bool(json, "more_holes", o->holes_overflow || o->holes.count > WA_INDEX_HOLES);
    return json;
}

static wa_status
parse_holes(const json_t *json, const char *key, wa_index_object *o, wa_error *err)
{
    const json_t *holes = json_object_get(json, "holes");
    for (size_t i = 0; i < json_array_size(holes); i++) {
        const json_t *hole = json_array_get(holes, i);
        json_int_t begin = json_integer_value(json_array_get(hole, 0));
        json_int_t end = json_integer_value(json_array_get(hole, 1));
        if (begin < 0 || end <= begin || (uint64_t)begin < o->first || (uint64_t)end > o->end)
            return wa_error_set(err, WA_CORRUPT, "object \"%s\" has an impossible hole", key);
        wa_segranges_add(&o->holes, (wa_segno)begin, (wa_segno)end);
    }
    return WA_OK;
}

static wa_status
parse_facts(const json_t *json, const char *key, const wa_branch *branch, wa_index_object *o,
            wa_error *err)
{
    wa_branch named = {0};
    uint64_t level = 0, first = 0;
    WA_TRY(wa_repo_json_branch(json, "branch", key, &named, err));
    WA_TRY(wa_json_get_u64(json, "level", key, &level, err));
    WA_TRY(wa_json_get_u64(json, "first", key, &first, err));
    WA_TRY(wa_json_get_u64(json, "end", key, &o->end, err));
    const json_t *parts = json_object_get(json, "parts");
    o->parts = json_array_size(parts);
    uint64_t expected = o->first + o->parts * wa_index_part_span(o->level);
    if (!wa_str_eq(wa_json_string_or(json, "kind", ""), "index") || !wa_branch_eq(&named, branch) ||
        level != (uint64_t)o->level || first != o->first || o->parts > WA_INDEX_FANOUT ||
        o->end != expected || o->parts == 0)
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" speaks about something else", key);
    for (size_t i = 0; i < o->parts; i++)
        WA_TRY(summary_from_json(json_array_get(parts, i), key, &o->part[i], err));
    o->holes_overflow = wa_json_bool_or(json, "more_holes", false);
    return parse_holes(json, key, o, err);
}

wa_status
wa_index_read(wa_repo *repo, const wa_branch *branch, int level, wa_segno first, unsigned n,
              wa_index_object *ret, wa_error *err)
{
    WA_CLEANUP(wa_index_object_done) wa_index_object o = {.level = level, .first = first, .n = n};
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    o.key = wa_index_key(repo, branch, level, first, n);
    WA_TRY(wa_repo_open_end(repo, o.key, &ranges, NULL, err));
    WA_TRY(wa_container_open(ranges, &c, err));
    WA_TRY(parse_facts(wa_container_facts(c), o.key, branch, &o, err));
    *ret = o;
    o = (wa_index_object){0};
    return WA_OK;
}

wa_status
wa_index_read_again(wa_repo *repo, const wa_branch *branch, int level, wa_segno first, unsigned n,
                    wa_index_object *ret, wa_error *err)
{
    wa_index_cache *cache = wa_repo_index_cache(repo);
    WA_CLEANUP(wa_freep) char *key = wa_index_key(repo, branch, level, first, n);
    if (wa_index_cache_get(cache, key, ret))
        return WA_OK;
    WA_TRY(wa_index_read(repo, branch, level, first, n, ret, err));
    wa_index_cache_put(cache, ret);
    return WA_OK;
}

wa_status
wa_index_read_lines(wa_repo *repo, const wa_index_object *o, wa_sink *to, wa_error *err)
{
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    WA_TRY(wa_repo_open_end(repo, o->key, &ranges, NULL, err));
    WA_TRY(wa_container_open(ranges, &c, err));
    return wa_container_read_all(c, NULL, to, err);
}

void
wa_index_format_line(wa_segno segno, bool checked, const wa_wal_facts *facts, wa_buf *out)
{
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    wa_json_set_u64(json, "n", segno);
    wa_json_set_bool(json, "ok", checked);
    wa_json_set(json, "f", wa_wal_facts_to_json(facts));
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(json, 0);
    wa_buf_puts(out, text);
    wa_buf_putc(out, '\n');
}

wa_status
wa_index_parse_line(const char *line, size_t len, const char *key, wa_segno *ret_segno,
                    bool *ret_checked, wa_wal_facts *ret_facts, wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    uint64_t segno = 0;
    bool checked = false;
    WA_TRY(wa_json_parse(line, len, key, &json, err));
    WA_TRY(wa_json_get_u64(json, "n", key, &segno, err));
    WA_TRY(wa_json_get_bool(json, "ok", key, &checked, err));
    WA_TRY(wa_wal_facts_from_json(json_object_get(json, "f"), key, ret_facts, err));
    *ret_segno = segno;
    *ret_checked = checked;
    return WA_OK;
}
