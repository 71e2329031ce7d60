/*
 * pg/walfacts_json.c - WAL facts as JSON, and back.
 *
 *   records, commits, aborts          numbers
 *   first_record, last_record, last_end   LSNs "X/X"; missing: none
 *   min_time, max_time, last_time     microseconds since 2000-01-01 00:00 UTC; missing: none
 *   min_xid, max_xid                  missing: none
 *   restore_points                    [{lsn, end, time, name}, ...]
 *   checkpoints                       [{lsn, redo, time, tli, prev_tli, shutdown}, ...]
 *   overflow, switched                true, or missing
 *
 * LSNs and times in the lists as above. Restore points come first when the room gets short: they
 * are asked for by name.
 */
#include "walagent/pg/walfacts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The container's facts may have 16 KiB; some of it is for its own members and the caller's. */
#define ROOM 12288u

static void
set_lsn(json_t *obj, const char *key, wa_lsn lsn)
{
    char text[WA_LSN_TEXT];

    if (lsn != 0)
        wa_json_set_string(obj, key, wa_lsn_format(lsn, text));
}

static void
set_time(json_t *obj, const char *key, wa_time time)
{
    if (time != WA_TIME_NONE)
        wa_json_set_i64(obj, key, time);
}

static json_t *
restore_point_to_json(const wa_restore_point *point)
{
    json_t *obj = json_object();

    set_lsn(obj, "lsn", point->lsn);
    set_lsn(obj, "end", point->end);
    set_time(obj, "time", point->time);
    wa_json_set_string(obj, "name", point->name);
    return obj;
}

static json_t *
checkpoint_to_json(const wa_checkpoint_fact *checkpoint)
{
    json_t *obj = json_object();

    set_lsn(obj, "lsn", checkpoint->lsn);
    set_lsn(obj, "redo", checkpoint->redo);
    set_time(obj, "time", checkpoint->time);
    wa_json_set_u64(obj, "tli", checkpoint->tli);
    wa_json_set_u64(obj, "prev_tli", checkpoint->prev_tli);
    if (checkpoint->shutdown)
        wa_json_set_bool(obj, "shutdown", true);
    return obj;
}

/* Appends item (taken) if the room allows. */
static bool
append_within(json_t *list, json_t *item, size_t *room)
{
    size_t size = json_dumpb(item, NULL, 0, JSON_COMPACT) + 1;

    if (size > *room) {
        json_decref(item);
        return false;
    }
    *room -= size;
    WA_ASSERT(json_array_append_new(list, item) == 0);
    return true;
}

static void
set_list(json_t *obj, const char *key, json_t *list)
{
    if (json_array_size(list) > 0)
        wa_json_set(obj, key, list);
    else
        json_decref(list);
}

json_t *
wa_wal_facts_to_json(const wa_wal_facts *f)
{
    json_t *obj = json_object();
    json_t *points = json_array(), *checkpoints = json_array();
    bool overflow = f->overflow;
    size_t room = ROOM - 1024; /* the plain members */

    WA_ASSERT(obj != NULL && points != NULL && checkpoints != NULL);
    wa_json_set_u64(obj, "records", f->records);
    set_lsn(obj, "first_record", f->first_record);
    set_lsn(obj, "last_record", f->last_record);
    set_lsn(obj, "last_end", f->last_end);
    wa_json_set_u64(obj, "commits", f->commits);
    wa_json_set_u64(obj, "aborts", f->aborts);
    set_time(obj, "min_time", f->min_time);
    set_time(obj, "max_time", f->max_time);
    set_time(obj, "last_time", f->last_time);
    if (f->min_xid != 0) {
        wa_json_set_u64(obj, "min_xid", f->min_xid);
        wa_json_set_u64(obj, "max_xid", f->max_xid);
    }
    for (size_t i = 0; i < f->restore_point_count; i++)
        if (!append_within(points, restore_point_to_json(&f->restore_points[i]), &room))
            overflow = true;
    for (size_t i = 0; i < f->checkpoint_count; i++)
        if (!append_within(checkpoints, checkpoint_to_json(&f->checkpoints[i]), &room))
            overflow = true;
    set_list(obj, "restore_points", points);
    set_list(obj, "checkpoints", checkpoints);
    if (overflow)
        wa_json_set_bool(obj, "overflow", true);
    if (f->switched)
        wa_json_set_bool(obj, "switched", true);
    return obj;
}

static wa_status
get_lsn(const json_t *obj, const char *key, const char *what, wa_lsn *ret, wa_error *err)
{
    const char *text = NULL;

    if (json_object_get(obj, key) == NULL)
        return WA_OK;
    WA_TRY(wa_json_get_string(obj, key, what, &text, err));
    if (wa_lsn_parse(text, ret, err) != WA_OK)
        return wa_error_set(err, WA_CORRUPT, "%s: member \"%s\" is no LSN", what, key);
    return WA_OK;
}

static wa_status
get_time(const json_t *obj, const char *key, const char *what, wa_time *ret, wa_error *err)
{
    *ret = WA_TIME_NONE;
    if (json_object_get(obj, key) == NULL)
        return WA_OK;
    return wa_json_get_i64(obj, key, what, ret, err);
}

static wa_status
get_u32(const json_t *obj, const char *key, const char *what, uint32_t *ret, wa_error *err)
{
    uint64_t value = 0;

    if (json_object_get(obj, key) == NULL)
        return WA_OK;
    WA_TRY(wa_json_get_u64(obj, key, what, &value, err));
    if (value > UINT32_MAX)
        return wa_error_set(err, WA_CORRUPT, "%s: member \"%s\" is too large", what, key);
    *ret = (uint32_t)value;
    return WA_OK;
}

static wa_status
get_restore_point(const json_t *obj, const char *what, wa_restore_point *ret, wa_error *err)
{
    const char *name = NULL;

    WA_TRY(get_lsn(obj, "lsn", what, &ret->lsn, err));
    WA_TRY(get_lsn(obj, "end", what, &ret->end, err));
    WA_TRY(get_time(obj, "time", what, &ret->time, err));
    WA_TRY(wa_json_get_string(obj, "name", what, &name, err));
    snprintf(ret->name, sizeof ret->name, "%s", name);
    return WA_OK;
}

static wa_status
get_checkpoint(const json_t *obj, const char *what, wa_checkpoint_fact *ret, wa_error *err)
{
    WA_TRY(get_lsn(obj, "lsn", what, &ret->lsn, err));
    WA_TRY(get_lsn(obj, "redo", what, &ret->redo, err));
    WA_TRY(get_time(obj, "time", what, &ret->time, err));
    WA_TRY(get_u32(obj, "tli", what, &ret->tli, err));
    WA_TRY(get_u32(obj, "prev_tli", what, &ret->prev_tli, err));
    ret->shutdown = wa_json_bool_or(obj, "shutdown", false);
    return WA_OK;
}

static wa_status
get_lists(const json_t *json, const char *what, wa_wal_facts *f, wa_error *err)
{
    const json_t *points = json_object_get(json, "restore_points");
    const json_t *checkpoints = json_object_get(json, "checkpoints");

    if (json_array_size(points) > WA_FACTS_POINTS || json_array_size(checkpoints) > WA_FACTS_POINTS)
        return wa_error_set(err, WA_CORRUPT, "%s: too many restore points or checkpoints", what);
    for (size_t i = 0; i < json_array_size(points); i++)
        WA_TRY(get_restore_point(json_array_get(points, i), what,
                                 &f->restore_points[f->restore_point_count++], err));
    for (size_t i = 0; i < json_array_size(checkpoints); i++)
        WA_TRY(get_checkpoint(json_array_get(checkpoints, i), what,
                              &f->checkpoints[f->checkpoint_count++], err));
    return WA_OK;
}

wa_status
wa_wal_facts_from_json(const json_t *json, const char *what, wa_wal_facts *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_wal_facts *f = wa_malloc(sizeof *f);

    wa_wal_facts_init(f);
    WA_TRY(wa_json_get_u64(json, "records", what, &f->records, err));
    WA_TRY(wa_json_get_u64(json, "commits", what, &f->commits, err));
    WA_TRY(wa_json_get_u64(json, "aborts", what, &f->aborts, err));
    WA_TRY(get_lsn(json, "first_record", what, &f->first_record, err));
    WA_TRY(get_lsn(json, "last_record", what, &f->last_record, err));
    WA_TRY(get_lsn(json, "last_end", what, &f->last_end, err));
    WA_TRY(get_time(json, "min_time", what, &f->min_time, err));
    WA_TRY(get_time(json, "max_time", what, &f->max_time, err));
    WA_TRY(get_time(json, "last_time", what, &f->last_time, err));
    WA_TRY(get_u32(json, "min_xid", what, &f->min_xid, err));
    WA_TRY(get_u32(json, "max_xid", what, &f->max_xid, err));
    WA_TRY(get_lists(json, what, f, err));
    f->overflow = wa_json_bool_or(json, "overflow", false);
    f->switched = wa_json_bool_or(json, "switched", false);
    *ret = *f;
    return WA_OK;
}
