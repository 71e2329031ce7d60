/*
 * src/repo/index_plan.c - which index objects answer for a range of segments, and which segments
 * are there.
 *
 * From the highest level down: list the level's objects about what is not yet covered, read the
 * facts of each (one ranged read), take what it covers out. What is left over is listed. Holes that
 * an object shows are verified with one listing request each, since they may have been filled.
 */
#include "index_internal.h"

#include "repo_internal.h"
#include "wal_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_KEYS 1000u /* a listing's first request brings so many */

typedef struct name_state {
    uint64_t segment_size, span;
    size_t prefix_len;
    wa_tli tli;
    wa_segno to; /* names from here on are not needed */
    size_t most; /* but taken, until so many keys came */
    size_t seen;
    wa_segno end; /* all names before it are here */
    wa_index_name *names;
    size_t count, capacity;
} name_state;

/* "<FIRST24>-<N4>.zst" */
static bool
parse_name(const name_state *s, const char *rest, wa_index_name *ret)
{
    char segment[WA_SEGMENT_NAME];
    wa_tli tli = 0;
    uint64_t n = 0;
    if (strlen(rest) != 33 || rest[24] != '-' || strcmp(rest + 29, ".zst") != 0 ||
        !wa_parse_hex(rest + 25, 4, &n) || n == 0)
        return false;
    memcpy(segment, rest, 24);
    segment[24] = '\0';
    ret->n = (unsigned)n;
    return wa_segment_parse(segment, s->segment_size, &tli, &ret->first) && tli == s->tli &&
           ret->first % s->span == 0;
}

static wa_status
take_name(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    name_state *s = arg;
    wa_index_name name;
    s->seen++;
    if (!parse_name(s, object->key + s->prefix_len, &name))
        return WA_OK;
    if (name.first >= s->to && s->seen >= s->most) {
        s->end = name.first;
        return WA_CANCELLED; /* enough */
    }
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 32 : 2 * s->capacity;
        s->names = wa_reallocarray(s->names, s->capacity, sizeof *s->names);
    }
    s->names[s->count++] = name;
    return WA_OK;
}

static wa_status
list_names(wa_repo *repo, const wa_branch *branch, int level, wa_segno from, name_state *s,
           wa_error *err)
{
    WA_CLEANUP(wa_freep) char *prefix = wa_index_prefix(repo, branch, level);
    WA_CLEANUP(wa_freep) char *after = wa_index_key(repo, branch, level, from, 0);
    s->segment_size = wa_repo_cluster(repo)->segment_size;
    s->span = wa_index_span(level);
    s->prefix_len = strlen(prefix);
    s->tli = branch->tli;
    s->end = UINT64_MAX;
    wa_list_options options = {.prefix = prefix, .after = after};
    wa_status status = wa_store_list(wa_repo_store(repo), &options, take_name, s, err);
    if (status != WA_OK)
        wa_freep(&s->names);
    return status;
}

wa_status
wa_index_list(wa_repo *repo, const wa_branch *branch, int level, wa_segno from, wa_segno to,
              wa_index_name **ret, size_t *ret_count, wa_error *err)
{
    name_state s = {.to = to};
    WA_TRY(list_names(repo, branch, level, from - from % wa_index_span(level), &s, err));
    *ret = s.names;
    *ret_count = s.count;
    return WA_OK;
}

static bool
is_unusable(wa_status status)
{
    return status == WA_CORRUPT || status == WA_NOT_FOUND || status == WA_UNSUPPORTED;
}

/* Of one block's names, last first, the first that can be used. NOT_FOUND: none. */
static wa_status
read_best(wa_repo *repo, const wa_branch *branch, int level, const wa_index_name *names,
          size_t count, wa_index_object *ret, wa_error *err)
{
    for (size_t i = count; i > 0; i--) {
        wa_index_object o = {0};
        wa_status status =
            wa_index_read_again(repo, branch, level, names[i - 1].first, names[i - 1].n, &o, err);
        if (status == WA_OK && !o.holes_overflow) {
            *ret = o;
            return WA_OK;
        }
        wa_index_object_done(&o);
        if (status != WA_OK && !is_unusable(status))
            return status;
        wa_error_clear(err);
    }
    return wa_error_set(err, WA_NOT_FOUND, "no usable index object");
}

static size_t
names_of_block(const wa_index_name *names, size_t count, wa_segno first, size_t *ret_begin)
{
    size_t begin = 0;
    while (begin < count && names[begin].first < first)
        begin++;
    size_t end = begin;
    while (end < count && names[end].first == first)
        end++;
    *ret_begin = begin;
    return end - begin;
}

/* From a listing that was made before, an object that has nothing to grow by. NOT_FOUND: list. */
static wa_status
find_listed(wa_repo *repo, const wa_branch *branch, int level, wa_segno first, wa_index_object *ret,
            wa_error *err)
{
    WA_CLEANUP(wa_freep) char *prefix = wa_index_prefix(repo, branch, level);
    WA_CLEANUP(wa_freep) wa_index_name *names = NULL;
    size_t count = 0;
    if (!wa_index_cache_names(wa_repo_index_cache(repo), prefix, first, &names, &count))
        return wa_error_set(err, WA_NOT_FOUND, "not listed yet");
    wa_index_object o = {0};
    WA_TRY(read_best(repo, branch, level, names, count, &o, err));
    if (o.end < first + wa_index_span(level)) {
        wa_index_object_done(&o);
        return wa_error_set(err, WA_NOT_FOUND, "there may be a newer one");
    }
    *ret = o;
    return WA_OK;
}

wa_status
wa_index_find(wa_repo *repo, const wa_branch *branch, int level, wa_segno first,
              wa_index_object *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_index_name *names = NULL;
    size_t count = 0;
    WA_TRY(wa_index_list(repo, branch, level, first, first + 1, &names, &count, err));
    return read_best(repo, branch, level, names, count, ret, err);
}

wa_status
wa_index_find_again(wa_repo *repo, const wa_branch *branch, int level, wa_segno first,
                    wa_index_object *ret, wa_error *err)
{
    wa_status status = find_listed(repo, branch, level, first, ret, err);
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    WA_CLEANUP(wa_freep) char *prefix = wa_index_prefix(repo, branch, level);
    name_state s = {.to = first + 1, .most = PAGE_KEYS};
    size_t begin = 0;
    WA_TRY(list_names(repo, branch, level, first, &s, err));
    WA_CLEANUP(wa_freep) wa_index_name *names = s.names;
    size_t count = names_of_block(names, s.count, first, &begin);
    wa_index_cache_put_names(wa_repo_index_cache(repo), prefix, first, s.end, names, s.count);
    return read_best(repo, branch, level, count > 0 ? names + begin : NULL, count, ret, err);
}

void
wa_index_plan_done(wa_index_plan *p)
{
    for (size_t i = 0; i < p->count; i++)
        wa_index_object_done(&p->objects[i]);
    free(p->objects);
    free(p->use);
    for (size_t i = 0; i <= WA_INDEX_LEVELS; i++)
        wa_segranges_done(&p->missing[i]);
    *p = (wa_index_plan){0};
}

static void
plan_insert(wa_index_plan *p, wa_index_object *o, wa_segrange use)
{
    if (p->count == p->capacity) {
        p->capacity = p->capacity == 0 ? 16 : 2 * p->capacity;
        p->objects = wa_reallocarray(p->objects, p->capacity, sizeof *p->objects);
        p->use = wa_reallocarray(p->use, p->capacity, sizeof *p->use);
    }
    size_t at = p->count;
    for (; at > 0 && p->use[at - 1].begin > use.begin; at--) {
        p->objects[at] = p->objects[at - 1];
        p->use[at] = p->use[at - 1];
    }
    p->objects[at] = *o;
    p->use[at] = use;
    p->count++;
}

/* The level's objects about one range that higher levels don't cover. */
static wa_status
plan_range(wa_repo *repo, const wa_branch *branch, int level, wa_segrange range,
           wa_segranges *missing, wa_index_plan *p, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_index_name *names = NULL;
    size_t count = 0;
    WA_TRY(wa_index_list(repo, branch, level, range.begin, range.end, &names, &count, err));
    for (size_t i = 0, next = 0; i < count; i = next) {
        for (next = i; next < count && names[next].first == names[i].first;)
            next++;
        wa_index_object o = {0};
        wa_status status = read_best(repo, branch, level, names + i, next - i, &o, err);
        if (status == WA_NOT_FOUND) {
            wa_error_clear(err);
            continue;
        }
        WA_TRY(status);
        wa_segrange use = {o.first > range.begin ? o.first : range.begin,
                           o.end < range.end ? o.end : range.end};
        if (use.begin >= use.end) { /* it doesn't reach that far yet */
            wa_index_object_done(&o);
            continue;
        }
        wa_segranges_remove(missing, use.begin, use.end);
        plan_insert(p, &o, use);
    }
    return WA_OK;
}

static void
copy_ranges(wa_segranges *to, const wa_segranges *from)
{
    for (size_t i = 0; i < from->count; i++)
        wa_segranges_add(to, from->items[i].begin, from->items[i].end);
}

/* Levels that have objects, as bits. */
static wa_status
list_levels(wa_repo *repo, const wa_branch *branch, unsigned *ret, wa_error *err)
{
    char text[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep)
    char *prefix = wa_repo_key(repo, "index/%s/", wa_branch_format(branch, text));
    WA_TRY(wa_repo_list(repo, prefix, true, NULL, &keys, err));
    unsigned levels = 0;
    for (size_t i = 0; i < keys.count; i++) {
        WA_CLEANUP(wa_freep) char *name = wa_key_tail(keys.items[i]);
        if (strlen(name) == 1 && name[0] >= '0' && name[0] < '0' + WA_INDEX_LEVELS)
            levels |= 1u << (name[0] - '0');
    }
    *ret = levels;
    return WA_OK;
}

wa_status
wa_index_plan_make(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to, int highest,
                   wa_index_plan *ret, wa_error *err)
{
    WA_CLEANUP(wa_index_plan_done) wa_index_plan p = {0};
    unsigned levels = 0;
    WA_TRY(list_levels(repo, branch, &levels, err));
    wa_segranges_add(&p.missing[WA_INDEX_LEVELS], from, to);
    for (int level = WA_INDEX_LEVELS - 1; level >= 0; level--) {
        copy_ranges(&p.missing[level], &p.missing[level + 1]);
        if (level > highest || (levels & (1u << level)) == 0)
            continue;
        for (size_t i = 0; i < p.missing[level + 1].count; i++)
            WA_TRY(plan_range(repo, branch, level, p.missing[level + 1].items[i], &p.missing[level],
                              &p, err));
    }
    *ret = p;
    p = (wa_index_plan){0};
    return WA_OK;
}

typedef struct present_state {
    wa_segranges *present;
    wa_segno end, last;
    wa_time last_modified;
} present_state;

static wa_status
take_segment(void *arg, wa_segno segno, uint64_t stored_size, wa_time modified, wa_error *err)
{
    (void)stored_size;
    (void)err;
    present_state *s = arg;
    if (segno >= s->end)
        return WA_CANCELLED; /* enough */
    wa_segranges_add(s->present, segno, segno + 1);
    s->last = segno;
    s->last_modified = modified;
    return WA_OK;
}

wa_status
wa_index_any(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to, bool *ret,
             wa_error *err)
{
    bool found = false;
    wa_segno segno = 0;
    WA_TRY(wa_wal_next(repo, branch, from, &found, &segno, err));
    *ret = found && segno < to;
    return WA_OK;
}

/* Segments in a range of which the index says nothing, or that they aren't there. */
static wa_status
look(wa_repo *repo, const wa_branch *branch, wa_segrange range, bool probably_empty,
     present_state *s, wa_error *err)
{
    bool any = true;
    if (probably_empty)
        WA_TRY(wa_index_any(repo, branch, range.begin, range.end, &any, err));
    if (!any)
        return WA_OK;
    s->end = range.end;
    return wa_wal_list(repo, branch, range.begin, take_segment, s, err);
}

static wa_segrange
intersection(wa_segrange a, wa_segrange b)
{
    return (wa_segrange){a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

/* What the index says is there, without its holes; holes that were filled go to refilled too. */
static wa_status
believe_objects(wa_repo *repo, const wa_branch *branch, const wa_index_plan *plan,
                wa_segranges *present, wa_segranges *refilled, wa_error *err)
{
    for (size_t i = 0; i < plan->count; i++) {
        wa_segrange use = plan->use[i];
        wa_segranges_add(present, use.begin, use.end);
        for (size_t h = 0; h < plan->objects[i].holes.count; h++) {
            wa_segrange hole = intersection(plan->objects[i].holes.items[h], use);
            if (hole.begin >= hole.end)
                continue;
            wa_segranges_remove(present, hole.begin, hole.end);
            present_state filled = {.present = refilled};
            WA_TRY(look(repo, branch, hole, true, &filled, err));
        }
    }
    copy_ranges(present, refilled);
    return WA_OK;
}

static wa_status
time_of_last(wa_repo *repo, const wa_branch *branch, const wa_segranges *present,
             const present_state *seen, wa_time *ret, wa_error *err)
{
    wa_segno last = present->items[present->count - 1].end - 1;
    if (seen->last_modified != WA_TIME_NONE && seen->last == last) {
        *ret = seen->last_modified;
        return WA_OK;
    }
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(repo, branch, last);
    uint64_t size = 0;
    wa_time modified = WA_TIME_NONE;
    wa_status status = wa_store_head(wa_repo_store(repo), key, &size, &modified, NULL, err);
    if (status != WA_OK && status != WA_NOT_FOUND) /* expired since: no time then */
        return status;
    wa_error_clear(err);
    *ret = modified;
    return WA_OK;
}

wa_status
wa_index_present(wa_repo *repo, const wa_branch *branch, wa_segno from, wa_segno to,
                 wa_index_plan *ret_plan, wa_segranges *ret, wa_segranges *ret_refilled,
                 wa_time *ret_last, wa_error *err)
{
    WA_CLEANUP(wa_index_plan_done) wa_index_plan plan = {0};
    WA_CLEANUP(wa_segranges_done) wa_segranges present = {0};
    WA_CLEANUP(wa_segranges_done) wa_segranges refilled = {0};
    bool found = false;
    wa_segno first = 0;
    wa_time last = WA_TIME_NONE;
    WA_TRY(wa_wal_next(repo, branch, from, &found, &first, err)); /* older ones may have expired */
    if (found && first < to) {
        present_state seen = {.present = &present, .last_modified = WA_TIME_NONE};
        WA_TRY(wa_index_plan_make(repo, branch, first, to, WA_INDEX_LEVELS, &plan, err));
        WA_TRY(believe_objects(repo, branch, &plan, &present, &refilled, err));
        for (size_t i = 0; i < plan.missing[0].count; i++)
            WA_TRY(look(repo, branch, plan.missing[0].items[i], plan.missing[0].items[i].end != to,
                        &seen, err));
        if (present.count > 0 && ret_last != NULL)
            WA_TRY(time_of_last(repo, branch, &present, &seen, &last, err));
    }
    if (ret_plan != NULL) {
        *ret_plan = plan;
        plan = (wa_index_plan){0};
    }
    if (ret_refilled != NULL) {
        *ret_refilled = refilled;
        refilled = (wa_segranges){0};
    }
    if (ret_last != NULL)
        *ret_last = last;
    *ret = present;
    present = (wa_segranges){0};
    return WA_OK;
}
