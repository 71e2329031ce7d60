/*
 * get_segment.c - a segment for restore_command: whole, or what is there of an unfinished one.
 *
 * What a server may never get: WAL of a branch outside its chain or past a fork, fewer records than
 * its own pg_wal holds, fewer than it got before, bytes whose checksums were not verified.
 */
#include "get_internal.h"

#include "walagent/store/mirror.h"

#include "walagent/base/bytes.h"
#include "walagent/base/file.h"
#include "walagent/pg/walreader.h"
#include "walagent/repo/event.h"
#include "walagent/repo/tail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_AGAIN_MS 5000 /* the whole segment may have replaced its chunks meanwhile */

typedef struct get_job {
    const wa_get_options *options;
    wa_get_mode mode;
    wa_repo *repo;
    const char *name;
    uint64_t size;
    wa_tli tli;
    wa_segno segno;
    wa_lsn start;
    wa_get_chain chain; /* server modes only */
    wa_get_draft draft; /* of the target, from the whole object; there when that is served */
    uint8_t *bytes;     /* else one segment; NULL: not needed yet */
    const char *target;
    wa_lsn end; /* behind the last byte that is there */
    bool whole; /* from the whole object */
    bool whole_only;
    bool in_memory; /* the whole object too */
    wa_get_result result;
} get_job;

static void
get_job_done(get_job *job)
{
    wa_get_chain_done(&job->chain);
    wa_get_draft_done(&job->draft);
    wa_freep(&job->bytes);
}

static wa_status
absent(get_job *job, wa_error *err, const char *why)
{
    snprintf(job->result.note, sizeof job->result.note, "%s", why);
    return wa_error_set(err, WA_NOT_FOUND, "WAL segment \"%s\" is not served: %s", job->name, why);
}

static uint8_t *
bytes_of(get_job *job)
{
    if (job->bytes == NULL)
        job->bytes = wa_malloc_large(job->size);
    return job->bytes;
}

static wa_status
check_first_page(const void *arg, const uint8_t *page, wa_error *err)
{
    const get_job *job = arg;
    uint64_t system = wa_repo_cluster(job->repo)->system_identifier;
    wa_tli tli = wa_get_u32le(page + 4);
    if (wa_wal_magic_major(wa_get_u16le(page)) == 0)
        return WA_OK; /* archived without looking at it, as its facts say */
    bool known =
        job->chain.steps == NULL || wa_lineage_branch_of_tli(job->chain.steps, tli) != NULL;
    if ((wa_get_u16le(page + 2) & 2) != 0 && wa_get_u64le(page + 24) == system &&
        wa_get_u64le(page + 8) == job->start && tli <= job->tli && known)
        return WA_OK;
    return wa_error_set(err, WA_CORRUPT, "the archived WAL segment \"%s\" has another first page",
                        job->name);
}

/* The chunks, when the whole object is damaged: only if nothing is missing. */
static wa_status
replace_damaged(get_job *job, const wa_branch *branch, wa_error *err)
{
    wa_error other = WA_ERROR_INIT;
    wa_segment_check check = {0};
    wa_lsn end = 0;
    uint8_t *bytes = bytes_of(job);
    if (wa_tail_assemble(job->repo, branch, job->segno, bytes, &end, NULL, &other) != WA_OK ||
        check_first_page(job, bytes, &other) != WA_OK ||
        wa_segment_check_all(bytes, job->size, job->start, NULL, NULL, &check, &other) != WA_OK ||
        !check.complete)
        return wa_error_hint(err, "Run \"walagent verify --wal\". The segment can be archived "
                                  "again from a server that still has it.");
    snprintf(job->result.note, sizeof job->result.note,
             "the archived segment is damaged; it was put together from its chunks");
    wa_error_clear(err);
    job->end = job->start + job->size;
    job->whole = true;
    return WA_OK;
}

static wa_status
load_whole_from(get_job *job, wa_repo *repo, const wa_branch *branch, wa_error *err)
{
    bool checked = true;
    wa_get_whole whole = {.name = job->name,
                          .bytes = job->in_memory ? bytes_of(job) : NULL,
                          .draft = &job->draft,
                          .target = job->target,
                          .durable = job->mode == WA_GET_RAW,
                          .check_head = check_first_page,
                          .arg = job};
    WA_TRY(wa_get_whole_read(&whole, repo, branch, job->segno, job->options->pool, &checked, err));
    if (!checked)
        snprintf(job->result.note, sizeof job->result.note,
                 "the segment was archived although its records failed their checks, or without "
                 "looking at them");
    return WA_OK;
}

/* The first mirror whose object is whole. */
static bool
load_from_mirror(get_job *job, const wa_branch *branch)
{
    wa_store *store = wa_repo_store(job->repo);
    for (size_t i = 1; i < wa_store_members(store); i++) {
        wa_error other = WA_ERROR_INIT;
        wa_member_status mirror;
        WA_CLEANUP(wa_repo_freep) wa_repo *repo = wa_repo_member(job->repo, i);
        if (load_whole_from(job, repo, branch, &other) != WA_OK)
            continue;
        wa_store_mirror_count_served(store, i);
        wa_store_member_status(store, i, &mirror);
        snprintf(job->result.note, sizeof job->result.note,
                 "the segment is damaged in the main repository; it was read from \"%s\"",
                 mirror.name);
        return true;
    }
    return false;
}

static wa_status
load_whole(get_job *job, const wa_branch *branch, wa_error *err)
{
    wa_status status = load_whole_from(job, job->repo, branch, err);
    if (status == WA_CORRUPT) {
        status = replace_damaged(job, branch, err);
        if (status != WA_OK && load_from_mirror(job, branch)) {
            wa_error_clear(err);
            status = WA_OK;
        }
    }
    WA_TRY(status);
    job->end = job->start + job->size;
    job->whole = true;
    return WA_OK;
}

static wa_status
load_bytes(get_job *job, const wa_branch *branch, wa_error *err)
{
    wa_mono began = wa_mono_now();
    wa_status status = load_whole(job, branch, err);
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    status = wa_tail_assemble(job->repo, branch, job->segno, bytes_of(job), &job->end, NULL, err);
    if (status == WA_NOT_FOUND && wa_mono_now() - began > LOOK_AGAIN_MS) {
        wa_error_clear(err);
        status = load_whole(job, branch, err);
    }
    if (status == WA_NOT_FOUND)
        return wa_error_set(err, WA_NOT_FOUND, "WAL segment \"%s\" is not in the archive",
                            job->name);
    return status;
}

/* The end of the last whole record in memory; the start when there is none. */
static wa_lsn
valid_end_of_bytes(const get_job *job)
{
    wa_error ignored = WA_ERROR_INIT;
    wa_wal_end state = WA_WAL_MORE;
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(job->size);
    wa_walreader_lenient(r, true);
    wa_walreader_expect_system(r, wa_repo_cluster(job->repo)->system_identifier);
    wa_walreader_start(r, job->start, 0);
    if (wa_walreader_feed(r, job->bytes, (size_t)(job->end - job->start), NULL, NULL, &state,
                          &ignored) != WA_OK)
        wa_error_clear(&ignored);
    return wa_walreader_end(r);
}

/* How far the local file of this name is valid, and whether it begins as our bytes do. A recycled
 * file counts as empty, a missing one too. */
static wa_status
look_at_local(const get_job *job, wa_lsn tail_end, wa_lsn *ret_end, bool *ret_same, wa_error *err)
{
    WA_CLEANUP(wa_freep)
    char *path = wa_format("%s/pg_wal/%s", job->options->data_dir, job->name);
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    *ret_end = job->start;
    *ret_same = true;
    if (fd < 0 && errno == ENOENT)
        return WA_OK;
    if (fd < 0 || fstat(fd, &st) != 0) {
        wa_error_errno(err, errno, "could not look at file \"%s\": %m", path);
        return err->status;
    }
    if ((uint64_t)st.st_size != job->size)
        return WA_OK; /* no segment that the server would use */
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(job->size);
    WA_CLEANUP(wa_freep) uint8_t *local = wa_malloc(job->size);
    WA_TRY(wa_pread_all(fd, local, job->size, 0, path, err));
    wa_walreader_lenient(r, true);
    wa_walreader_expect_system(r, wa_repo_cluster(job->repo)->system_identifier);
    wa_walreader_start(r, job->start, 0);
    wa_wal_end state = WA_WAL_MORE;
    if (wa_walreader_feed(r, local, job->size, NULL, NULL, &state, err) != WA_OK)
        wa_error_clear(err);
    *ret_end = wa_walreader_end(r);
    wa_lsn both = *ret_end < tail_end ? *ret_end : tail_end;
    *ret_same = memcmp(local, job->bytes, (size_t)(both - job->start)) == 0;
    return WA_OK;
}

static void
alarm_of_difference(const get_job *job, const wa_branch *branch)
{
    wa_error ignored = WA_ERROR_INIT;
    char text[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_json_freep) json_t *details = json_object();
    wa_json_set_string(details, "name", job->name);
    wa_json_set_string(details, "branch", wa_branch_format(branch, text));
    WA_CLEANUP(wa_freep)
    char *message = wa_format("a server in recovery holds other bytes of WAL segment \"%s\" than "
                              "the archive's chunks",
                              job->name);
    if (wa_event_put(job->repo, "conflict", message, details, &ignored) != WA_OK)
        wa_error_clear(&ignored);
}

/* May these bytes of an unfinished segment replace what the server has? */
static wa_status
guard_unfinished(get_job *job, const wa_branch *branch, wa_error *err)
{
    wa_lsn end = valid_end_of_bytes(job), local = 0;
    bool same = false;
    char ours[WA_LSN_TEXT], theirs[WA_LSN_TEXT];
    WA_TRY(look_at_local(job, end, &local, &same, err));
    if (!same) {
        alarm_of_difference(job, branch);
        return absent(job, err, "the local file holds other bytes than the archive");
    }
    if (end <= local)
        return absent(job, err, "the archive holds no more of it than pg_wal");
    wa_lsn before = wa_get_served(job->options->data_dir, job->name);
    if (end < before)
        return wa_error_set(err, WA_UNAVAILABLE,
                            "WAL segment \"%s\" was served up to %s before, now only up to %s is "
                            "found",
                            job->name, wa_lsn_format(before, theirs), wa_lsn_format(end, ours));
    return wa_get_remember_served(job->options->data_dir, job->name, end, err);
}

/* Has the branch anything of this segment? */
static wa_status
holds_any(get_job *job, const wa_branch *branch, bool *ret, wa_error *err)
{
    wa_wal_info info = {0};
    wa_lsn end = 0;
    wa_status status = wa_wal_head(job->repo, branch, job->segno, &info, err);
    if (status == WA_NOT_FOUND)
        status = wa_tail_end(job->repo, branch, job->segno, &end, NULL, err);
    *ret = status != WA_NOT_FOUND;
    if (status == WA_NOT_FOUND || status == WA_OK) {
        wa_error_clear(err);
        return WA_OK;
    }
    return status;
}

/* The segment holds the point where the branch ends: only up to it, and only if no later branch has
 * a segment of its own there (it begins with the same bytes). */
static wa_status
cut_at_fork(get_job *job, const wa_branch *branch, wa_lsn fork, wa_error *err)
{
    const wa_lineage *steps = job->chain.steps;
    for (size_t i = 0; i < steps->count; i++) {
        bool there = false;
        if (steps->steps[i].branch.tli <= branch->tli ||
            wa_segno_of(steps->steps[i].begin, job->size) != job->segno)
            continue;
        WA_TRY(holds_any(job, &steps->steps[i].branch, &there, err));
        if (there)
            return absent(job, err, "the timeline ends in it, and the next one has it too");
    }
    job->in_memory = true;
    WA_TRY(load_bytes(job, branch, err));
    if (job->end > fork)
        job->end = fork;
    job->whole = false;
    memset(job->bytes + (job->end - job->start), 0, job->size - (size_t)(job->end - job->start));
    return WA_OK;
}

static wa_status
load_for_server(get_job *job, wa_error *err)
{
    WA_TRY(wa_get_chain_load(job->options, job->mode, &job->chain, err));
    const wa_branch *branch = wa_lineage_branch_of_tli(job->chain.steps, job->tli);
    if (branch == NULL)
        return absent(job, err, "its timeline is not in the accepted lineage");
    wa_lsn end = wa_get_chain_end(&job->chain, branch);
    if (end != 0 && job->start >= end)
        return absent(job, err, "its timeline was left before it");
    bool holds_end = end != 0 && end < job->start + job->size;
    if (job->whole_only)
        return holds_end ? absent(job, err, "it holds the end of its timeline")
                         : load_whole(job, branch, err);
    if (holds_end)
        WA_TRY(cut_at_fork(job, branch, end, err));
    else
        WA_TRY(load_bytes(job, branch, err));
    return job->whole ? WA_OK : guard_unfinished(job, branch, err);
}

/* Every branch, the accepted one first. */
static wa_status
load_raw(get_job *job, wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *accepted = NULL;
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    size_t count = 0;
    WA_TRY(wa_get_accepted(job->options, &accepted, err));
    const wa_branch *first = wa_lineage_branch_of_tli(accepted, job->tli);
    if (first != NULL) {
        wa_status status = load_bytes(job, first, err);
        if (status != WA_NOT_FOUND)
            return status;
        wa_error_clear(err);
    }
    WA_TRY(wa_branches_of(job->repo, job->tli, &branches, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (first != NULL && wa_branch_eq(first, &branches[i]))
            continue;
        wa_status status = load_bytes(job, &branches[i], err);
        if (status != WA_NOT_FOUND)
            return status;
        wa_error_clear(err);
    }
    return wa_error_set(err, WA_NOT_FOUND, "WAL segment \"%s\" is not in the archive", job->name);
}

/* Not there is the main repository's word. A person may read a mirror that has it. */
static void
hint_at_mirror(get_job *job, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    size_t count = 0;
    wa_store *store = wa_repo_store(job->repo);
    for (size_t i = 1; i < wa_store_members(store); i++) {
        wa_error ignored = WA_ERROR_INIT;
        wa_wal_info info;
        wa_member_status mirror;
        WA_CLEANUP(wa_repo_freep) wa_repo *repo = wa_repo_member(job->repo, i);
        wa_freep(&branches);
        if (wa_branches_of(repo, job->tli, &branches, &count, &ignored) != WA_OK)
            continue;
        for (size_t k = 0; k < count; k++) {
            if (wa_wal_head(repo, &branches[k], job->segno, &info, &ignored) != WA_OK)
                continue;
            wa_store_member_status(store, i, &mirror);
            wa_error_hint(err,
                          "Repository \"%s\" has it: \"--repository %s\" reads that copy "
                          "alone.",
                          mirror.name, mirror.name);
            return;
        }
    }
}

wa_status
wa_get_segment(const wa_get_options *options, wa_get_mode mode, const char *name,
               const char *target, bool whole_only, wa_get_result *ret, wa_error *err)
{
    WA_CLEANUP(get_job_done)
    get_job job = {.options = options,
                   .mode = mode,
                   .repo = options->repo,
                   .name = name,
                   .target = target,
                   .draft = WA_GET_DRAFT_INIT,
                   .whole_only = whole_only,
                   .size = wa_repo_cluster(options->repo)->segment_size};
    if (!wa_segment_parse(name, job.size, &job.tli, &job.segno))
        return wa_error_set(err, WA_NOT_FOUND,
                            "\"%s\" is no WAL segment of a cluster with segments of %llu bytes",
                            name, (unsigned long long)job.size);
    job.start = wa_segment_start(job.segno, job.size);
    wa_status status = mode == WA_GET_RAW ? load_raw(&job, err) : load_for_server(&job, err);
    if (status == WA_OK) {
        job.result.end = job.end;
        job.result.from_tail = !job.whole;
        status = job.draft.path != NULL
                     ? wa_get_draft_publish(&job.draft, target, job.size, err)
                     : wa_get_write(target, job.bytes, (size_t)(job.end - job.start), job.size,
                                    mode == WA_GET_RAW, err);
    }
    if (status == WA_NOT_FOUND && mode == WA_GET_RAW)
        hint_at_mirror(&job, err);
    *ret = job.result;
    return status;
}
