/*
 * push.c - archive_command: segments, unfinished segments, histories and backup history files.
 */
#include "push_internal.h"

#include "walagent/base/file.h"
#include "walagent/repo/event.h"
#include "walagent/repo/index.h"
#include "walagent/repo/resolution.h"

#include <stdio.h>
#include <string.h>

#define BACKUP_FILE_MAX (1u << 20)

/* Did the streamer archive a segment of this name? With these bytes nothing is left to do: what
 * was wrong with them was told then. */
static wa_status
streamed_already(const wa_push_job *job, bool *ret_known, bool *ret_done, wa_push_result *ret,
                 wa_error *err)
{
    const wa_push_options *o = job->options;
    char known[WA_XXH_HEX], mine[WA_XXH_HEX];
    wa_branch branch;
    *ret_known = o->knows != NULL && o->knows(o->knows_arg, job->name, known, &branch);
    if (!*ret_known)
        return WA_OK;
    WA_TRY(wa_push_hash(job, mine, err));
    if (strcmp(mine, known) != 0)
        return WA_OK;
    *ret = (wa_push_result){.outcome = WA_PUT_SAME, .branch = branch, .checked = true};
    memcpy(ret->xxh3, mine, sizeof ret->xxh3);
    *ret_done = true;
    return WA_OK;
}

/* ret->xxh3 is the file's. Whoever wrote the object may have died before its name was durable, and
 * the server recycles its segment on our word. (What this process made durable is known, and not
 * looked for here.) */
static wa_status
settle_if_same(const wa_push_job *job, const wa_branch *branch, const wa_wal_info *there,
               wa_push_result *ret, bool *ret_archived, wa_error *err)
{
    if (there->raw_size != job->size || strcmp(there->xxh3, ret->xxh3) != 0)
        return WA_OK;
    wa_status status = wa_wal_settle(job->repo, branch, job->segno, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    ret->outcome = WA_PUT_SAME;
    ret->checked = there->checked;
    *ret_archived = true;
    return WA_OK;
}

/* Other content is left to the upload, which keeps it. */
static wa_status
archived_already(const wa_push_job *job, const wa_branch *branch, wa_push_result *ret,
                 bool *ret_archived, wa_error *err)
{
    wa_wal_info there = {0};
    *ret_archived = false;
    wa_status status = wa_wal_head(job->repo, branch, job->segno, &there, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    if (job->data != NULL)
        wa_xxh_of(job->data, job->size, ret->xxh3);
    return settle_if_same(job, branch, &there, ret, ret_archived, err);
}

/* Losing the event never stops WAL: the object itself says "checked": false. */
static void
report_damage(const wa_push_job *job, const wa_branch *branch, wa_push_result *ret)
{
    wa_error ignored = WA_ERROR_INIT;
    char text[WA_BRANCH_TEXT];
    snprintf(ret->warning, sizeof ret->warning,
             "WAL segment \"%s\" contradicts itself and was archived as it is: %.400s", job->name,
             job->damage);
    WA_CLEANUP(wa_json_freep) json_t *details = json_object();
    wa_json_set_string(details, "name", job->name);
    wa_json_set_string(details, "branch", wa_branch_format(branch, text));
    wa_json_set_string(details, "reason", job->damage);
    if (wa_event_put(job->repo, "damage", ret->warning, details, &ignored) != WA_OK)
        wa_error_clear(&ignored);
}

/* The index is a cache: what fails now is made up for 16 segments later. */
static void
update_index(const wa_push_job *job, const wa_branch *branch)
{
    wa_error ignored = WA_ERROR_INIT;
    if ((job->segno + 1) % WA_INDEX_FANOUT == 0 &&
        wa_index_update(job->repo, branch, job->segno, &ignored) != WA_OK)
        wa_error_clear(&ignored);
}

static wa_status
await_turn(const wa_push_job *job, wa_error *err)
{
    const wa_push_options *o = job->options;
    return o->turn == NULL ? WA_OK : o->turn(o->turn_arg, err);
}

/* Where the first record is gone the segment before tells: it must be there first. */
static wa_status
find_branch(const wa_push_job *job, wa_branch_answer *ret, wa_error *err)
{
    wa_branch_question q = {.repo = job->repo,
                            .wal_dir = job->wal_dir,
                            .tli = job->tli,
                            .segno = job->segno,
                            .data = job->data};
    wa_status status = wa_branch_find(&q, ret, err);
    if (status == WA_OK && job->tli > 1 && !ret->by_record && job->options->turn != NULL) {
        wa_branch_answer_done(ret);
        *ret = (wa_branch_answer){.history = WA_BUF_INIT(WA_HISTORY_MAX)};
        WA_TRY(await_turn(job, err));
        status = wa_branch_find(&q, ret, err);
    }
    if (status == WA_NOT_FOUND)
        status = err->status = WA_FAILED; /* "not found" is said of the archive's WAL only */
    return status;
}

/* Of a whole segment nothing but its hash is needed from here on. */
static void
drop_data(void *arg)
{
    wa_push_job *job = arg;
    const wa_push_options *o = job->options;
    wa_push_drop_data(job);
    if (o->room != NULL && o->room_done != NULL)
        o->room_done(o->room_arg);
}

static wa_status
put_segment(wa_push_job *job, const wa_branch *branch, wa_push_result *ret, wa_error *err)
{
    WA_CLEANUP(wa_wal_writer_freep) wa_wal_writer *w = WA_TAKE(job->writer);
    if (w == NULL)
        WA_TRY(wa_push_begin(job, branch, &w, err));
    wa_wal_writer_set_branch(w, branch);
    wa_container_writer *container = wa_wal_writer_container(w);
    size_t done = wa_container_raw_size(container);
    if (done < job->size)
        WA_TRY(wa_container_write_lent(container, job->data + done, job->size - done, err));
    wa_container_hash(container, ret->xxh3);
    wa_wal_writer_when_compressed(w, drop_data, job);
    wa_wal_writer_when(w, job->options->turn, job->options->turn_arg);
    return wa_wal_writer_commit(w, 0, job->check.parsed ? job->facts : NULL, ret->checked,
                                &ret->outcome, err);
}

/* The archive has no room. It may have the segment all the same, and only the answer was lost: then
 * pg_wal must not fill as well. */
static wa_status
unless_archived(const wa_push_job *job, const wa_branch *branch, wa_push_result *ret, wa_error *err)
{
    wa_error ignored = WA_ERROR_INIT;
    bool archived = false;
    if (archived_already(job, branch, ret, &archived, &ignored) != WA_OK || !archived)
        return err->status;
    wa_error_clear(err);
    return WA_OK;
}

static wa_status
put_unless_archived(wa_push_job *job, const wa_branch *branch, wa_push_result *ret, wa_error *err)
{
    bool archived = false;
    if (job->options->look_first && !job->absent)
        WA_TRY(archived_already(job, branch, ret, &archived, err));
    if (archived)
        return WA_OK;
    if (job->full.status != WA_OK)
        *err = job->full;
    else if (put_segment(job, branch, ret, err) == WA_OK)
        update_index(job, branch);
    return err->status == WA_NO_SPACE ? unless_archived(job, branch, ret, err) : err->status;
}

static wa_status
store_segment(wa_push_job *job, const wa_branch *branch, wa_push_result *ret, wa_error *err)
{
    bool parsed = job->check.parsed;
    ret->checked = parsed && !job->damaged;
    WA_TRY(put_unless_archived(job, branch, ret, err));
    if (job->damaged)
        report_damage(job, branch, ret);
    else if (!parsed)
        snprintf(ret->warning, sizeof ret->warning,
                 "WAL segment \"%s\" is of a PostgreSQL version that is not known here: it was "
                 "archived without looking at its records",
                 job->name);
    return WA_OK;
}

/* The archive has other content. OK all the same when a person has settled exactly these bytes
 * (what is kept in quarantine): archiving goes on. */
static wa_status
unless_settled(const wa_push_job *job, const wa_branch *branch, size_t len, wa_push_result *result,
               wa_error *err)
{
    wa_error failed = WA_ERROR_INIT;
    char xxh3[WA_XXH_HEX];
    bool settled = false;
    const char *content = job->data == NULL ? result->xxh3 : wa_xxh_of(job->data, len, xxh3);
    if (wa_resolution_exists(job->repo, branch, job->name, content, &settled, &failed) != WA_OK ||
        !settled)
        return err->status;
    wa_error_clear(err);
    *result = (wa_push_result){.outcome = WA_PUT_SAME, .branch = *branch};
    snprintf(result->warning, sizeof result->warning,
             "WAL file \"%s\" is archived with other content; what was pushed was settled by "
             "\"walagent lineage resolve\" and stays in quarantine",
             job->name);
    return WA_OK;
}

/* Stores what the file holds, by what it is: ret_len bytes of it. */
static wa_status
store_what_it_is(wa_push_job *job, bool partial, const wa_branch *branch, size_t *ret_len,
                 wa_push_result *result, wa_error *err)
{
    bool whole = job->check.complete || !job->check.parsed;
    *ret_len = job->size;
    if (partial && (job->damaged || !job->check.parsed)) {
        WA_TRY(wa_wal_put_other(job->repo, branch, job->name, job->data, job->size, err));
        snprintf(result->warning, sizeof result->warning,
                 "WAL file \"%s\" was archived without checking it", job->name);
        result->checked = false;
    } else if (whole && !partial) {
        WA_TRY(store_segment(job, branch, result, err));
    } else {
        *ret_len = (size_t)(job->check.valid_end - job->start);
        WA_TRY(await_turn(job, err));
        WA_TRY(wa_push_prefix(job, branch, result, err));
        if (partial)
            result->warning[0] = '\0'; /* what a .partial is for */
    }
    return WA_OK;
}

/* A piece at a time. What was wrong with these bytes was told when they were archived, or, where
 * the object says nothing of them, is told when they are read as a whole. */
static wa_status
archived_as_it_is(wa_push_job *job, const wa_branch *branch, const wa_wal_info *there,
                  bool *ret_done, wa_push_result *ret, wa_error *err)
{
    wa_push_result result = {.branch = *branch};
    if (!there->checked)
        return WA_OK;
    WA_TRY(wa_push_hash(job, result.xxh3, err));
    WA_TRY(settle_if_same(job, branch, there, &result, ret_done, err));
    if (*ret_done)
        *ret = result;
    return WA_OK;
}

/* Of timeline 1 the branch is known before anything is read: what the archive hasn't is compressed
 * while it is read, and what it has needs no more than a checksum. */
static wa_status
ask_archive(wa_push_job *job, bool *ret_done, wa_push_result *ret, wa_error *err)
{
    wa_wal_info there = {0};
    if (job->tli != 1)
        return WA_OK;
    WA_CLEANUP(wa_branch_answer_done)
    wa_branch_answer answer = {.history = WA_BUF_INIT(WA_HISTORY_MAX)};
    WA_TRY(find_branch(job, &answer, err));
    wa_status status = wa_wal_head(job->repo, &answer.branch, job->segno, &there, err);
    if (status == WA_OK)
        return archived_as_it_is(job, &answer.branch, &there, ret_done, ret, err);
    job->absent = status == WA_NOT_FOUND;
    if (job->absent)
        wa_error_clear(err);
    return job->absent ? WA_OK : status;
}

static wa_status
read_segment(wa_push_job *job, bool partial, bool early, wa_error *err)
{
    const wa_push_options *o = job->options;
    bool compresses = o->pool != NULL || o->room != NULL;
    if (early && job->tli == 1 && compresses && wa_push_stream(job))
        return WA_OK;
    WA_TRY(wa_push_read(job, partial, early, err));
    return wa_push_check(job, err);
}

static wa_status
push_segment(wa_push_job *job, bool partial, wa_push_result *ret, wa_error *err)
{
    size_t len = 0;
    bool known = false, done = false;
    if (!partial)
        WA_TRY(streamed_already(job, &known, &done, ret, err));
    if (done)
        return WA_OK;
    if (!partial && !known && job->options->look_first)
        WA_TRY(ask_archive(job, &done, ret, err));
    if (done)
        return WA_OK;
    bool early = !partial && !known && (!job->options->look_first || job->absent);
    WA_TRY(read_segment(job, partial, early, err));
    WA_CLEANUP(wa_branch_answer_done)
    wa_branch_answer answer = {.history = WA_BUF_INIT(WA_HISTORY_MAX)};
    WA_TRY(find_branch(job, &answer, err));
    WA_TRY(wa_branch_settle(job->repo, &answer, err));
    wa_push_result result = {.checked = true, .source = job->source};
    wa_status status = WA_OK;
    if (!partial && job->check.complete) {
        len = job->size;
        status = wa_push_choose_branch(job, &answer, &result, err);
    }
    result.branch = answer.branch;
    if (status == WA_OK)
        status = store_what_it_is(job, partial, &answer.branch, &len, &result, err);
    if (status == WA_CONFLICT)
        status = unless_settled(job, &answer.branch, len, &result, err);
    WA_TRY(status);
    *ret = result;
    return WA_OK;
}

/* Does a branch of the timeline with this history exist? */
static wa_status
history_is_known(const wa_push_job *job, const wa_buf *text, wa_branch *ret, bool *ret_known,
                 wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    size_t count = 0;
    WA_TRY(wa_branches_of(job->repo, job->tli, &branches, &count, err));
    *ret_known = false;
    for (size_t i = 0; i < count && !*ret_known; i++) {
        WA_CLEANUP(wa_buf_done) wa_buf there = WA_BUF_INIT(WA_HISTORY_MAX);
        wa_status status = wa_history_get(job->repo, &branches[i], &there, err);
        if (status != WA_OK && status != WA_NOT_FOUND)
            return status;
        *ret_known = status == WA_OK && there.len == text->len &&
                     memcmp(there.data, text->data, text->len) == 0;
        if (*ret_known)
            *ret = branches[i];
    }
    wa_error_clear(err);
    return WA_OK;
}

static wa_status
push_history(wa_push_job *job, wa_push_result *ret, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(WA_HISTORY_MAX);
    WA_CLEANUP(wa_history_freep) wa_history *parsed = NULL;
    if (!wa_history_name_parse(job->name, &job->tli) || job->tli == 1)
        return wa_error_set(err, WA_INVALID, "\"%s\" is no name of a history file", job->name);
    if (wa_file_read(job->path, WA_HISTORY_MAX, &text, err) != WA_OK) {
        err->status = WA_FAILED;
        return err->status;
    }
    if (wa_history_parse(job->tli, wa_buf_str(&text), text.len, &parsed, err) != WA_OK)
        return wa_error_wrap(err, "history file \"%s\"", job->path);
    wa_branch_answer answer = {.branch = {.tli = job->tli}, .history = text};
    bool known = false;
    WA_TRY(wa_branch_of_local_history(job->repo, job->wal_dir, job->tli, text.data, text.len,
                                      &known, &answer.branch, err));
    if (known) {
        WA_TRY(wa_branch_settle(job->repo, &answer, err));
    } else {
        WA_TRY(history_is_known(job, &text, &answer.branch, &known, err));
        if (!known)
            WA_TRY(wa_history_put_pending(job->repo, job->tli, text.data, text.len, err));
    }
    *ret = (wa_push_result){.outcome = WA_PUT_CREATED, .branch = answer.branch, .checked = true};
    return WA_OK;
}

static wa_status
push_backup_file(wa_push_job *job, wa_push_result *ret, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(BACKUP_FILE_MAX);
    if (wa_file_read(job->path, BACKUP_FILE_MAX, &text, err) != WA_OK) {
        err->status = WA_FAILED;
        return err->status;
    }
    WA_CLEANUP(wa_branch_answer_done)
    wa_branch_answer answer = {.history = WA_BUF_INIT(WA_HISTORY_MAX)};
    WA_TRY(find_branch(job, &answer, err));
    WA_TRY(wa_wal_put_other(job->repo, &answer.branch, job->name, text.data, text.len, err));
    *ret = (wa_push_result){.outcome = WA_PUT_CREATED, .branch = answer.branch, .checked = true};
    return WA_OK;
}

static wa_status
push_kind(wa_push_job *job, wa_wal_file_kind kind, wa_push_result *ret, wa_error *err)
{
    char segment[WA_SEGMENT_NAME];
    if (kind == WA_WAL_HISTORY)
        return push_history(job, ret, err);
    snprintf(segment, sizeof segment, "%s", job->name);
    if (!wa_segment_parse(segment, job->size, &job->tli, &job->segno)) {
        wa_error_set(err, WA_CONFLICT,
                     "\"%s\" is no WAL file name of a cluster with segments of %llu bytes",
                     job->name, (unsigned long long)job->size);
        return wa_error_hint(err, "archive_command should be 'walagent archive-push %%p'.");
    }
    job->start = wa_segment_start(job->segno, job->size);
    if (kind == WA_WAL_BACKUP)
        return push_backup_file(job, ret, err);
    return push_segment(job, kind == WA_WAL_PARTIAL, ret, err);
}

wa_status
wa_push_file(const wa_push_options *options, const char *path, wa_push_result *ret, wa_error *err)
{
    WA_CLEANUP(wa_push_job_done)
    wa_push_job job = {.options = options,
                       .repo = options->repo,
                       .path = path,
                       .name = wa_path_base(path),
                       .wal_dir = wa_path_dir(path),
                       .size = wa_repo_cluster(options->repo)->segment_size};
    wa_wal_file_kind kind = wa_wal_file_kind_of(job.name);
    if (kind == WA_WAL_OTHER) {
        wa_error_set(err, WA_INVALID, "\"%s\" is no name of a WAL file", job.name);
        return wa_error_hint(err, "archive_command should be 'walagent archive-push %%p'.");
    }
    WA_TRY(wa_cancel_check(options->cancel, err));
    return push_kind(&job, kind, ret, err);
}
