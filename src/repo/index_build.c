/*
 * src/repo/index_build.c - write the index objects that are missing or out of date.
 *
 * Level by level, lowest first. A block of 16 segments is read from the segments' facts; a higher
 * block from the objects of its parts, which are built first when they are missing or damaged. A
 * block without any segment gets no object of its own.
 */
#include "index_internal.h"

#include "repo_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_LIMIT (16u * 1024 * 1024)
#define N_MAX 0xFFFFu

typedef struct build {
    wa_repo *repo;
    wa_branch branch;
    const wa_index_known *known;  /* may be NULL */
    const wa_segranges *refilled; /* segments that came after an object said they weren't there */
    bool afresh;                  /* what is there of an object that is written again isn't used */
} build;

/* ---- writing one object ---- */

/* The number behind the highest that is there, usable or not. Fresh ones are below N_MAX. */
static wa_status
next_number(build *b, int level, wa_segno first, unsigned *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_index_name *names = NULL;
    size_t count = 0;
    WA_TRY(wa_index_list(b->repo, &b->branch, level, first, first + 1, &names, &count, err));
    unsigned n = count == 0 ? 1 : names[count - 1].n + 1;
    if (n > N_MAX)
        return wa_error_set(err, WA_NO_SPACE, "the index block has been written %u times", N_MAX);
    *ret = n;
    return WA_OK;
}

/* Earlier readings of the block are of no more use. They may stay (object lock, no permission). */
static void
remove_earlier(build *b, int level, wa_segno first, unsigned n)
{
    wa_error ignored = WA_ERROR_INIT;
    if (n < 2)
        return;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_take(&keys, wa_index_key(b->repo, &b->branch, level, first, n - 1));
    if (wa_store_delete(wa_repo_store(b->repo), &keys, &ignored) != WA_OK)
        wa_error_clear(&ignored);
}

static wa_status
put_object(build *b, wa_index_object *o, wa_spill *spill, wa_error *err)
{
    unsigned n = 0;
    WA_TRY(next_number(b, o->level, o->first, &n, err));
    WA_CLEANUP(wa_freep) char *key = wa_index_key(b->repo, &b->branch, o->level, o->first, n);
    wa_body body;
    WA_TRY(wa_spill_body(spill, &body, err));
    wa_status status = wa_store_put(wa_repo_store(b->repo), key, &body,
                                    "{\"v\":1,\"kind\":\"index\"}", WA_PUT_CREATE, err);
    if (status == WA_EXISTS) {
        wa_error_clear(err); /* another builder was faster with the same */
        return WA_OK;
    }
    WA_TRY(status);
    remove_earlier(b, o->level, o->first, n);
    return WA_OK;
}

/* ---- level 0: from the segments ---- */

typedef struct segment_facts {
    bool present, checked;
    wa_wal_facts facts;
} segment_facts;
typedef struct block_state {
    build *b;
    wa_segno first;
    segment_facts segment[WA_INDEX_FANOUT];
} block_state;

static wa_status
note_present(void *arg, wa_segno segno, uint64_t stored_size, wa_time modified, wa_error *err)
{
    (void)stored_size;
    (void)modified;
    (void)err;
    block_state *s = arg;
    if (segno >= s->first + WA_INDEX_FANOUT)
        return WA_CANCELLED; /* enough */
    s->segment[segno - s->first].present = true;
    return WA_OK;
}

/* As they would be read: there is no room for everything in an object. */
static wa_status
take_known(const build *b, wa_segno segno, segment_facts *segment, bool *ret_known, wa_error *err)
{
    *ret_known =
        b->known != NULL && b->known->get(b->known->arg, segno, &segment->facts, &segment->checked);
    if (!*ret_known)
        return WA_OK;
    WA_CLEANUP(wa_json_freep) json_t *json = wa_wal_facts_to_json(&segment->facts);
    return wa_wal_facts_from_json(json, "known facts", &segment->facts, err);
}

/* A damaged segment is there all the same; `overflow` says that its facts are not known. */
static wa_status
read_segment(void *arg, size_t index, wa_error *err)
{
    block_state *s = arg;
    segment_facts *segment = &s->segment[index];
    wa_wal_info info = {0};
    wa_wal_facts_init(&segment->facts);
    bool known = false;
    if (!segment->present)
        return WA_OK;
    WA_TRY(take_known(s->b, s->first + index, segment, &known, err));
    if (known)
        return WA_OK;
    wa_status status =
        wa_wal_get_facts(s->b->repo, &s->b->branch, s->first + index, &segment->facts, &info, err);
    segment->checked = status == WA_OK && info.checked;
    if (status == WA_CORRUPT || status == WA_UNSUPPORTED) {
        wa_error_clear(err);
        wa_wal_facts_init(&segment->facts);
        segment->facts.overflow = true;
        return WA_OK;
    }
    if (status == WA_NOT_FOUND) { /* expired since the listing */
        wa_error_clear(err);
        segment->present = false;
        return WA_OK;
    }
    return status;
}

/* *ret_written false: no segment is there. */
static wa_status
build_lowest(build *b, wa_segno first, bool *ret_written, wa_error *err)
{
    WA_CLEANUP(wa_freep) block_state *s = wa_calloc(1, sizeof *s);
    s->b = b;
    s->first = first;
    WA_TRY(wa_wal_list(b->repo, &b->branch, first, note_present, s, err));
    WA_TRY(wa_repo_each(b->repo, WA_INDEX_FANOUT, read_segment, s, err));
    WA_CLEANUP(wa_index_object_done)
    wa_index_object o = {.first = first, .end = first + WA_INDEX_FANOUT, .parts = WA_INDEX_FANOUT};
    WA_CLEANUP(wa_buf_done) wa_buf lines = WA_BUF_INIT(WA_INDEX_FANOUT * 65536u);
    uint64_t there = 0;
    for (size_t i = 0; i < WA_INDEX_FANOUT; i++) {
        const segment_facts *segment = &s->segment[i];
        wa_wal_summary_init(&o.part[i]);
        if (!segment->present) {
            wa_segranges_add(&o.holes, first + i, first + i + 1);
            continue;
        }
        there++;
        wa_wal_summary_add_facts(&o.part[i], &segment->facts, segment->checked);
        wa_index_format_line(first + i, segment->checked, &segment->facts, &lines);
    }
    *ret_written = there > 0;
    if (there == 0)
        return WA_OK;
    WA_CLEANUP(wa_spill_freep)
    wa_spill *spill = wa_spill_new(MEMORY_LIMIT, wa_repo_scratch_dir(b->repo));
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_CLEANUP(wa_json_freep) json_t *facts = wa_index_facts(&b->branch, &o);
    WA_TRY(wa_container_writer_new(wa_spill_sink(spill), NULL, wa_repo_level(b->repo),
                                   WA_FRAME_TAIL, &w, err));
    WA_TRY(wa_container_write(w, lines.data, lines.len, err));
    WA_TRY(wa_container_finish(w, facts, NULL, err));
    return put_object(b, &o, spill, err);
}

/* ---- higher levels: from the parts ---- */

typedef struct copy_sink {
    wa_sink base;
    wa_container_writer *to;
} copy_sink;

static wa_status
copy_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    return wa_container_write(((copy_sink *)sink)->to, data, len, err);
}

static void
copy_free(wa_sink *sink)
{
    (void)sink;
}

static wa_status build_block(build *b, int level, wa_segno first, wa_segno end, bool *ret_written,
                             wa_error *err);

/* The object of a part, built when there is none. *ret_there false: the part has no segments. */
static wa_status
need_part(build *b, int level, wa_segno first, wa_index_object *ret, bool *ret_there, wa_error *err)
{
    uint64_t span = wa_index_span(level);
    wa_index_object o = {0};
    wa_status status = wa_index_find(b->repo, &b->branch, level, first, &o, err);
    if (status == WA_OK && o.end == first + span) {
        *ret = o;
        *ret_there = true;
        return WA_OK;
    }
    wa_index_object_done(&o);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    bool there = false;
    WA_TRY(wa_index_any(b->repo, &b->branch, first, first + span, &there, err));
    if (there)
        WA_TRY(build_block(b, level, first, first + span, &there, err));
    if (there)
        WA_TRY(wa_index_find(b->repo, &b->branch, level, first, ret, err));
    *ret_there = there;
    return WA_OK;
}

static wa_status
copy_lines(build *b, const wa_index_object *part, wa_container_writer *to, wa_error *err)
{
    static const wa_sink_ops ops = {copy_write, NULL, copy_free};
    copy_sink sink = {{&ops}, to};
    return wa_index_read_lines(b->repo, part, &sink.base, err);
}

static wa_status
add_part(build *b, wa_index_object *o, wa_segno first, wa_container_writer *w, bool *any,
         wa_error *err)
{
    WA_CLEANUP(wa_index_object_done) wa_index_object part = {0};
    bool there = false;
    WA_TRY(need_part(b, o->level - 1, first, &part, &there, err));
    wa_wal_summary *sum = &o->part[o->parts++];
    wa_wal_summary_init(sum);
    if (!there) {
        wa_segranges_add(&o->holes, first, first + wa_index_part_span(o->level));
        return WA_OK;
    }
    *any = true;
    for (size_t i = 0; i < part.parts; i++)
        wa_wal_summary_add(sum, &part.part[i]);
    for (size_t i = 0; i < part.holes.count; i++)
        wa_segranges_add(&o->holes, part.holes.items[i].begin, part.holes.items[i].end);
    if (o->level > WA_INDEX_LINES_LEVEL)
        return WA_OK;
    wa_status status = copy_lines(b, &part, w, err);
    if (status != WA_CORRUPT)
        return status;
    /* Its facts are fine, its lines are not: write it again; the caller tries once more. */
    wa_error_clear(err);
    WA_TRY(build_block(b, part.level, part.first, part.end, &there, err));
    return wa_error_set(err, WA_UNAVAILABLE, "index object \"%s\" was damaged and is rebuilt",
                        part.key);
}

static bool
is_refilled(const build *b, wa_segno begin, wa_segno end)
{
    for (size_t i = 0; i < b->refilled->count; i++)
        if (b->refilled->items[i].begin < end && begin < b->refilled->items[i].end)
            return true;
    return false;
}

/* What the object's earlier reading says, so that writing it again takes the parts that are new
 * and not all of them. *ret_next: the first part that is missing. */
static wa_status
take_earlier(build *b, wa_index_object *o, wa_container_writer *w, wa_segno *ret_next, bool *any,
             wa_error *err)
{
    WA_CLEANUP(wa_index_object_done) wa_index_object earlier = {0};
    *ret_next = o->first;
    if (b->afresh)
        return WA_OK;
    wa_status status = wa_index_find(b->repo, &b->branch, o->level, o->first, &earlier, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    bool usable = earlier.end < o->end && !is_refilled(b, earlier.first, earlier.end);
    for (size_t i = 0; i < earlier.parts; i++) /* versions that didn't know could be made up for */
        usable = usable && !earlier.part[i].xids_unknown;
    if (!usable)
        return WA_OK;
    if (o->level <= WA_INDEX_LINES_LEVEL && (status = copy_lines(b, &earlier, w, err)) != WA_OK) {
        b->afresh = true; /* the caller tries once more */
        return status != WA_CORRUPT ? status
                                    : wa_error_set(err, WA_UNAVAILABLE,
                                                   "index object \"%s\" is damaged", earlier.key);
    }
    for (size_t i = 0; i < earlier.parts; i++) {
        o->part[o->parts++] = earlier.part[i];
        *any = *any || earlier.part[i].segments > 0;
    }
    for (size_t i = 0; i < earlier.holes.count; i++)
        wa_segranges_add(&o->holes, earlier.holes.items[i].begin, earlier.holes.items[i].end);
    *ret_next = earlier.end;
    return WA_OK;
}

static wa_status
build_from_parts(build *b, int level, wa_segno first, wa_segno end, bool *ret_written,
                 wa_error *err)
{
    WA_CLEANUP(wa_index_object_done)
    wa_index_object o = {.level = level, .first = first, .end = end};
    WA_CLEANUP(wa_spill_freep)
    wa_spill *spill = wa_spill_new(MEMORY_LIMIT, wa_repo_scratch_dir(b->repo));
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_TRY(wa_container_writer_new(wa_spill_sink(spill), NULL, wa_repo_level(b->repo),
                                   WA_FRAME_TAIL, &w, err));
    bool any = false;
    wa_segno part = first;
    WA_TRY(take_earlier(b, &o, w, &part, &any, err));
    for (; part < end; part += wa_index_part_span(level))
        WA_TRY(add_part(b, &o, part, w, &any, err));
    *ret_written = any;
    if (!any)
        return WA_OK;
    WA_CLEANUP(wa_json_freep) json_t *facts = wa_index_facts(&b->branch, &o);
    WA_TRY(wa_container_finish(w, facts, NULL, err));
    return put_object(b, &o, spill, err);
}

static wa_status
build_block(build *b, int level, wa_segno first, wa_segno end, bool *ret_written, wa_error *err)
{
    if (level == 0)
        return build_lowest(b, first, ret_written, err);
    wa_status status = build_from_parts(b, level, first, end, ret_written, err);
    for (unsigned tries = 0; status == WA_UNAVAILABLE && tries < WA_INDEX_FANOUT; tries++) {
        wa_error again = WA_ERROR_INIT;
        status = build_from_parts(b, level, first, end, ret_written, &again);
        if (status != WA_OK)
            *err = again;
    }
    return status;
}

/* ---- what is to be built ---- */

static void
add_clipped(wa_segranges *to, const wa_segranges *from, wa_segno end)
{
    for (size_t i = 0; i < from->count; i++)
        wa_segranges_add(to, from->items[i].begin,
                         from->items[i].end < end ? from->items[i].end : end);
}

static wa_status
build_level(build *b, int level, const wa_segranges *todo, wa_segno target, wa_error *err)
{
    uint64_t span = wa_index_span(level);
    wa_segno done = 0; /* blocks below are built */
    for (size_t i = 0; i < todo->count; i++) {
        wa_segno at = todo->items[i].begin - todo->items[i].begin % span;
        for (at = at < done ? done : at; at < todo->items[i].end; at += span) {
            bool any = false, written = false;
            WA_TRY(wa_index_any(b->repo, &b->branch, at, todo->items[i].end, &any, err));
            if (!any)
                break;
            wa_segno end = at + span < target ? at + span : target;
            WA_TRY(build_block(b, level, at, end, &written, err));
            done = at + span;
        }
    }
    return WA_OK;
}

wa_status
wa_index_update_known(wa_repo *repo, const wa_branch *branch, wa_segno upto_segno,
                      const wa_index_known *known, wa_error *err)
{
    WA_CLEANUP(wa_index_plan_done) wa_index_plan plan = {0};
    WA_CLEANUP(wa_segranges_done) wa_segranges present = {0};
    WA_CLEANUP(wa_segranges_done) wa_segranges refilled = {0};
    WA_TRY(
        wa_index_present(repo, branch, 0, upto_segno + 1, &plan, &present, &refilled, NULL, err));
    if (present.count == 0)
        return WA_OK;
    wa_segno first = present.items[0].begin;
    build b = {.repo = repo, .branch = *branch, .known = known, .refilled = &refilled};
    for (int level = 0; level < WA_INDEX_LEVELS; level++) {
        uint64_t unit = level == 0 ? WA_INDEX_FANOUT : wa_index_part_span(level);
        wa_segno target = (upto_segno + 1) / unit * unit;
        if (target <= first)
            break;
        WA_CLEANUP(wa_segranges_done) wa_segranges todo = {0};
        add_clipped(&todo, &plan.missing[level], target);
        add_clipped(&todo, &refilled, target);
        WA_TRY(build_level(&b, level, &todo, target, err));
        /* A higher level would have one part: nothing gained. */
        if (first / wa_index_span(level) == (target - 1) / wa_index_span(level))
            break;
    }
    return WA_OK;
}

wa_status
wa_index_update(wa_repo *repo, const wa_branch *branch, wa_segno upto_segno, wa_error *err)
{
    return wa_index_update_known(repo, branch, upto_segno, NULL, err);
}
