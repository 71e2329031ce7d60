/*
 * src/repo/wal_writer.c - put a whole segment; other bytes under a taken name go to quarantine.
 *
 * The container is built first (its hash is part of the public facts, which are sent with it), in
 * memory up to 16 MiB, then in a nameless file; or in a draft of the store where that is asked for
 * and there is such a thing. (Of larger segments than that up to 4 MiB: nearly all would pass it,
 * and several are under way at a time.) One create-only PUT makes it visible.
 */
#include "walagent/repo/event.h"
#include "walagent/repo/wal_object.h"
#include "walagent/store/mirror.h"

#include "repo_internal.h"
#include "wal_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPILL_LIMIT (16u * 1024 * 1024)
#define SPILL_LIMIT_LARGE (4u * 1024 * 1024)

struct wa_wal_writer {
    wa_repo *repo;
    wa_branch branch;
    wa_segno segno;
    wa_spill *spill;
    wa_container_writer *container;
    wa_put_ready_fn ready; /* NULL: at once, or it was asked */
    void *ready_arg;
    void (*compressed)(void *arg); /* may be NULL */
    void *compressed_arg;
};

wa_status
wa_wal_writer_begin(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_pool *pool,
                    wa_wal_writer **ret, wa_error *err)
{
    WA_CLEANUP(wa_wal_writer_freep) wa_wal_writer *w = wa_calloc(1, sizeof *w);
    w->repo = repo;
    w->branch = *branch;
    w->segno = segno;
    bool large = wa_repo_cluster(repo)->segment_size > SPILL_LIMIT;
    w->spill = wa_spill_new(large ? SPILL_LIMIT_LARGE : SPILL_LIMIT, wa_repo_scratch_dir(repo));
    WA_TRY(wa_container_writer_new(wa_spill_sink(w->spill), pool, wa_repo_level(repo), WA_FRAME_WAL,
                                   &w->container, err));
    *ret = WA_TAKE(w);
    return WA_OK;
}

void
wa_wal_writer_draft(wa_wal_writer *w)
{
    wa_spill_into(w->spill, wa_repo_store(w->repo));
}

wa_container_writer *
wa_wal_writer_container(wa_wal_writer *w)
{
    return w->container;
}

void
wa_wal_writer_set_branch(wa_wal_writer *w, const wa_branch *branch)
{
    w->branch = *branch;
}

void
wa_wal_writer_when(wa_wal_writer *w, wa_put_ready_fn ready, void *arg)
{
    w->ready = ready;
    w->ready_arg = arg;
}

void
wa_wal_writer_when_compressed(wa_wal_writer *w, void (*fn)(void *arg), void *arg)
{
    w->compressed = fn;
    w->compressed_arg = arg;
}

/* Asked once. */
static wa_status
await_ready(void *arg, wa_error *err)
{
    wa_wal_writer *w = arg;
    wa_put_ready_fn ready = w->ready;
    w->ready = NULL;
    return ready == NULL ? WA_OK : ready(w->ready_arg, err);
}

void
wa_wal_writer_free(wa_wal_writer *w)
{
    if (w == NULL)
        return;
    wa_container_writer_free(w->container);
    wa_spill_free(w->spill);
    free(w);
}

static json_t *
conflict_details(const wa_wal_info *info, const char *name, const char *key, const char *reason)
{
    json_t *details = json_object();
    wa_repo_json_set_branch(details, "branch", &info->branch);
    wa_json_set_string(details, "name", name);
    wa_json_set_string(details, "kept", key);
    wa_json_set_string(details, "xxh3", info->xxh3);
    wa_json_set_string(details, "reason", reason);
    return details;
}

wa_status
wa_wal_quarantine_body(wa_repo *repo, const wa_branch *branch, const char *name,
                       const wa_body *body, const wa_wal_info *info, const char *reason,
                       char **ret_key, wa_error *err)
{
    char text[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_freep)
    char *key = wa_repo_key(repo, "quarantine/%s/%s-%s.zst", wa_branch_format(branch, text), name,
                            info->xxh3);
    bool there = false;
    WA_TRY(wa_object_exists(wa_repo_store(repo), key, &there, err));
    if (!there) {
        WA_CLEANUP(wa_json_freep) json_t *details = conflict_details(info, name, key, reason);
        WA_CLEANUP(wa_freep)
        char *message = wa_format("\"%s\" of branch %s: %s", name, text, reason);
        /* Only a store that may answer later is worth failing for: the bytes matter more. */
        if (wa_event_put(repo, "conflict", message, details, err) == WA_UNAVAILABLE)
            return err->status;
        wa_error_clear(err);
        WA_CLEANUP(wa_freep) char *meta = wa_wal_info_meta("quarantine", info);
        wa_status status = wa_store_put(wa_repo_store(repo), key, body, meta, WA_PUT_CREATE, err);
        if (status != WA_OK && status != WA_EXISTS)
            return status;
        wa_error_clear(err);
    }
    if (ret_key != NULL)
        *ret_key = WA_TAKE(key);
    return WA_OK;
}

static wa_status
report_conflict(const wa_wal_info *there, const wa_wal_info *mine, const char *name,
                const char *kept, wa_error *err)
{
    char time[WA_TIME_TEXT];
    wa_error_set(err, WA_CONFLICT,
                 "the archive has WAL segment \"%s\" with other content: archived %s by %s at %s, "
                 "pushed %s by %s, kept as \"%s\"",
                 name, there->xxh3, there->writer, wa_time_format(there->modified, time),
                 mine->xxh3, mine->writer, kept);
    return wa_error_hint(err,
                         "Two servers wrote this segment, or it was damaged. Find out which one is "
                         "right, then run \"walagent lineage resolve %s --keep "
                         "archived|both\".",
                         name);
}

/* The name is taken: by the same content, or this is a conflict. */
static wa_status
name_is_taken(wa_wal_writer *w, const char *key, const wa_body *body, const wa_wal_info *mine,
              wa_put_outcome *ret, wa_error *err)
{
    wa_wal_info there = {0};
    if (wa_wal_object_info(w->repo, key, &there, err) != WA_OK)
        return wa_error_wrap(err, "could not compare with the archived segment");
    if (strcmp(there.xxh3, mine->xxh3) == 0 && there.raw_size == mine->raw_size) {
        wa_error_clear(err);
        *ret = WA_PUT_SAME;
        return WA_OK;
    }
    char name[WA_SEGMENT_NAME];
    wa_segment_name(w->branch.tli, w->segno, wa_repo_cluster(w->repo)->segment_size, name);
    WA_CLEANUP(wa_freep) char *kept = NULL;
    WA_CLEANUP(wa_freep)
    char *reason = wa_format("archived with content %s by %s, pushed with content %s by %s",
                             there.xxh3, there.writer, mine->xxh3, mine->writer);
    if (wa_wal_quarantine_body(w->repo, &w->branch, name, body, mine, reason, &kept, err) != WA_OK)
        return wa_error_wrap(err, "could not keep other content of WAL segment \"%s\"", name);
    return report_conflict(&there, mine, name, kept, err);
}

wa_status
wa_wal_writer_commit(wa_wal_writer *w, uint32_t epoch, const wa_wal_facts *facts, bool checked,
                     wa_put_outcome *ret, wa_error *err)
{
    uint64_t size = wa_repo_cluster(w->repo)->segment_size;
    if (wa_container_raw_size(w->container) != size)
        return wa_error_set(err, WA_INVALID, "a WAL segment of %llu bytes instead of %llu",
                            (unsigned long long)wa_container_raw_size(w->container),
                            (unsigned long long)size);
    wa_lsn start = wa_segment_start(w->segno, size);
    wa_wal_info info = {.branch = w->branch,
                        .start = start,
                        .base = start,
                        .end = start + size,
                        .raw_size = size,
                        .epoch = epoch,
                        .checked = checked};
    snprintf(info.writer, sizeof info.writer, "%s", wa_repo_writer(w->repo));
    wa_container_hash(w->container, info.xxh3);
    WA_CLEANUP(wa_json_freep) json_t *bulky = NULL;
    WA_CLEANUP(wa_json_freep)
    json_t *frame = wa_wal_facts_frame(w->repo, "wal", &info, facts, &bulky);
    WA_TRY(wa_container_finish(w->container, frame, bulky, err));
    if (w->compressed != NULL)
        w->compressed(w->compressed_arg);

    WA_CLEANUP(wa_freep) char *key = wa_wal_key(w->repo, &w->branch, w->segno);
    WA_CLEANUP(wa_freep) char *meta = wa_wal_info_meta("wal", &info);
    wa_body body;
    WA_TRY(wa_spill_body(w->spill, &body, err));
    wa_status status = wa_store_put_when(wa_repo_store(w->repo), key, &body, meta, WA_PUT_CREATE,
                                         await_ready, w, err);
    if (status == WA_EXISTS) {
        WA_TRY(await_ready(w, err));
        return name_is_taken(w, key, &body, &info, ret, err);
    }
    WA_TRY(status);
    *ret = WA_PUT_CREATED;
    return WA_OK;
}

wa_status
wa_wal_settle(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(repo, branch, segno);
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, key);
    return wa_store_settle(wa_repo_store(repo), &keys, err);
}

wa_status
wa_wal_put(wa_repo *repo, const wa_branch *branch, wa_segno segno, const void *data, wa_pool *pool,
           uint32_t epoch, const wa_wal_facts *facts, bool checked, wa_put_outcome *ret,
           wa_error *err)
{
    WA_CLEANUP(wa_wal_writer_freep) wa_wal_writer *w = NULL;
    WA_TRY(wa_wal_writer_begin(repo, branch, segno, pool, &w, err));
    WA_TRY(wa_container_write_lent(w->container, data, wa_repo_cluster(repo)->segment_size, err));
    return wa_wal_writer_commit(w, epoch, facts, checked, ret, err);
}
