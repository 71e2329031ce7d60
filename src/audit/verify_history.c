/*
 * verify_history.c - does a branch's name agree with its content?
 *
 * A branch is named by system identifier, history and first record (repo/branch.h), so a history
 * that was changed, with public facts that fit it, still gives another name. Where the first record
 * isn't archived nothing can be recomputed; of a further writer's branch ("...-2") that was named
 * by the first one's record only the history can be compared with the first one's. There the fork
 * is compared with what else is known of it: no branch has WAL of segments before its fork, and the
 * accepted lineage says where a branch leaves its parent. WAL that is missing behind the fork
 * (expired, or a hole) says nothing about it.
 */
#include "verify_internal.h"

#include "walagent/pg/walreader.h"
#include "walagent/repo/tail.h"

#include <string.h>

#define ID_CHARS 8u
#define HISTORY_MAX (1u << 20)
#define SEGMENTS_MAX 4u /* over which the first record may go on */

typedef struct first_record {
    wa_lsn from;
    wa_buf bytes;
    bool found;
} first_record;

static wa_status
take_first(void *arg, const wa_record *record, wa_error *err)
{
    first_record *f = arg;
    (void)err;
    if (record->lsn < f->from)
        return WA_OK;
    wa_branch_record_bytes(record, &f->bytes);
    f->found = true;
    return WA_CANCELLED;
}

/* What the branch has of a segment, from its start on; *ret_len 0: nothing usable. */
static wa_status
load_bytes(const wa_verify *v, const wa_branch *branch, wa_segno segno, void *bytes,
           size_t *ret_len, wa_error *err)
{
    wa_repo *repo = v->options->repo;
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    wa_lsn end = wa_segment_start(segno, size) + size;
    wa_status status = wa_wal_get(repo, branch, segno, NULL, bytes, NULL, NULL, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        status = wa_tail_assemble(repo, branch, segno, bytes, &end, NULL, err);
    }
    *ret_len = 0;
    if (status == WA_NOT_FOUND || status == WA_CORRUPT) { /* other findings */
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    *ret_len = (size_t)(end - wa_segment_start(segno, size));
    return WA_OK;
}

static wa_status
find_first(const wa_verify *v, const wa_branch *branch, first_record *f, wa_error *err)
{
    uint64_t size = wa_repo_cluster(v->options->repo)->segment_size;
    wa_segno segno = wa_segno_of(f->from, size);
    WA_CLEANUP(wa_freep) void *bytes = wa_malloc(size);
    WA_CLEANUP(wa_walreader_freep) wa_walreader *reader = wa_walreader_new(size);
    wa_walreader_lenient(reader, true);
    wa_walreader_start(reader, wa_segment_start(segno, size), 0);
    for (wa_segno i = 0; i < SEGMENTS_MAX && !f->found; i++) {
        size_t len = 0;
        wa_wal_end end = WA_WAL_MORE;
        WA_TRY(load_bytes(v, branch, segno + i, bytes, &len, err));
        if (len == 0)
            return WA_OK;
        wa_status status = wa_walreader_feed(reader, bytes, len, take_first, f, &end, err);
        if (status != WA_OK)
            wa_error_clear(err); /* found, or bytes that contradict: another finding */
        if (status != WA_OK || end != WA_WAL_MORE || len < size)
            return WA_OK;
    }
    return WA_OK;
}

static bool
has_id(const wa_branch *branch, const wa_branch *computed)
{
    return strncmp(branch->id, computed->id, ID_CHARS) == 0;
}

/* ret_id: what the content gives; untouched when it can't be told. */
static wa_status
compute(const wa_verify *v, const wa_branch *branch, const wa_history *history, const wa_buf *text,
        bool *ret_known, wa_branch *ret, wa_error *err)
{
    uint64_t system = wa_repo_cluster(v->options->repo)->system_identifier;
    wa_branch plain = wa_branch_of(system, branch->tli, text->data, text->len, NULL, 0);
    if (branch->tli == 1 || has_id(branch, &plain)) {
        *ret = plain;
        *ret_known = true;
        return WA_OK;
    }
    first_record f = {.from = wa_history_begin(history), .bytes = WA_BUF_INIT(2 * WA_RECORD_KEEP)};
    wa_status status = find_first(v, branch, &f, err);
    if (status == WA_OK && f.found) {
        *ret = wa_branch_of(system, branch->tli, text->data, text->len, f.bytes.data, f.bytes.len);
        *ret_known = true;
    }
    wa_buf_done(&f.bytes);
    return status;
}

/* A further writer's branch: the same history as the first one's. */
static wa_status
compare_with_first(wa_verify *v, const wa_branch *branch, const wa_buf *text, wa_error *err)
{
    wa_branch first = {.tli = branch->tli};
    memcpy(first.id, branch->id, ID_CHARS);
    WA_CLEANUP(wa_buf_done) wa_buf other = WA_BUF_INIT(HISTORY_MAX);
    wa_status status = wa_history_get(v->options->repo, &first, &other, err);
    if (status == WA_NOT_FOUND || status == WA_CORRUPT) {
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    char name[WA_BRANCH_TEXT], first_name[WA_BRANCH_TEXT];
    if (other.len != text->len || memcmp(other.data, text->data, text->len) != 0)
        wa_verify_damage(v, "history", wa_branch_format(branch, name),
                         "the branch can't be followed, so nothing on it can be restored",
                         "the history of branch %s is not that of %s, the first one of this name",
                         name, wa_branch_format(&first, first_name));
    return WA_OK;
}

static const wa_lineage_step *
accepted_step(const wa_verify *v, const wa_branch *branch)
{
    const wa_lineage *l = v->windows->lineage;
    /* The first step begins at 0, whatever its branch's history says. */
    for (size_t i = 1; i < l->count; i++)
        if (wa_branch_eq(&l->steps[i].branch, branch))
            return &l->steps[i];
    return NULL;
}

static wa_status
take_segment(void *arg, wa_segno segno, uint64_t stored_size, wa_time modified, wa_error *err)
{
    wa_segno *first = arg;
    (void)stored_size, (void)modified, (void)err;
    *first = segno;
    return WA_CANCELLED;
}

/* The first segment that the branch has something of; UINT64_MAX: nothing. */
static wa_status
first_segment(const wa_verify *v, const wa_branch *branch, wa_segno *ret, wa_error *err)
{
    wa_repo *repo = v->options->repo;
    wa_segno first = UINT64_MAX;
    WA_CLEANUP(wa_freep) wa_segno *tails = NULL;
    size_t count = 0;
    wa_status status = wa_wal_list(repo, branch, 0, take_segment, &first, err);
    if (status != WA_CANCELLED || err->status != WA_OK)
        WA_TRY(status);
    WA_TRY(wa_tail_segments(repo, branch, &tails, &count, err));
    if (count > 0 && tails[0] < first)
        first = tails[0];
    *ret = first;
    return WA_OK;
}

/* The name can't be recomputed: does the fork agree with the lineage and the branch's WAL? */
static wa_status
check_fork(wa_verify *v, const wa_branch *branch, const wa_history *history, wa_error *err)
{
    static const char cost[] = "the branch can't be followed, so nothing on it can be restored";
    char name[WA_BRANCH_TEXT], says[WA_LSN_TEXT], other[WA_LSN_TEXT];
    wa_lsn fork = wa_history_begin(history);
    uint64_t size = wa_repo_cluster(v->options->repo)->segment_size;
    const wa_lineage_step *step = accepted_step(v, branch);
    wa_segno first = UINT64_MAX;
    wa_branch_format(branch, name);
    wa_lsn_format(fork, says);
    if (step != NULL && step->begin != fork) {
        wa_verify_damage(v, "history", name, cost,
                         "the history of branch %s says that it begins at %s, but the accepted "
                         "lineage says %s",
                         name, says, wa_lsn_format(step->begin, other));
        return WA_OK;
    }
    WA_TRY(first_segment(v, branch, &first, err));
    if (first < wa_segno_of(fork, size))
        wa_verify_damage(v, "history", name, cost,
                         "the history of branch %s says that it begins at %s, but the branch has "
                         "WAL from %s on",
                         name, says, wa_lsn_format(wa_segment_start(first, size), other));
    return WA_OK;
}

wa_status
wa_verify_history(wa_verify *v, const wa_branch *branch, const wa_history *history, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(HISTORY_MAX);
    wa_branch computed = {0};
    bool known = false;
    if (branch->tli != 1)
        WA_TRY(wa_history_get(v->options->repo, branch, &text, err));
    bool further = strlen(branch->id) > ID_CHARS;
    if (further && branch->tli != 1)
        WA_TRY(compare_with_first(v, branch, &text, err));
    else
        WA_TRY(compute(v, branch, history, &text, &known, &computed, err));
    if (!known && branch->tli != 1)
        return check_fork(v, branch, history, err);
    char name[WA_BRANCH_TEXT];
    if (known && !has_id(branch, &computed))
        wa_verify_damage(v, "history", wa_branch_format(branch, name),
                         "the branch can't be followed, so nothing on it can be restored",
                         "the content of branch %s gives the name %s: its history, its first "
                         "record or its name is not what was archived",
                         name, computed.id);
    return WA_OK;
}
