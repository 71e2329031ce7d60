/*
 * branch_of.c - find the branch that a segment of a timeline belongs to, and make it visible.
 *
 * The bytes that name a branch are those of the first record at or after the fork, as
 * repo/branch.h says: its header and body without the page headers between them.
 */
#include "branch_of_internal.h"

#include "walagent/base/file.h"
#include "walagent/codec/hash.h"
#include "walagent/repo/lineage.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FEED_BYTES (1u << 20)

void
wa_branch_answer_done(wa_branch_answer *a)
{
    wa_buf_done(&a->history);
}

static wa_status
take_first(void *arg, const wa_record *record, wa_error *err)
{
    wa_first_record *f = arg;
    if (record->lsn < f->from)
        return WA_OK;
    f->prev = record->prev;
    wa_branch_record_bytes(record, &f->bytes);
    f->found = true;
    return wa_error_set(err, WA_CANCELLED, "enough");
}

wa_status
wa_first_record_feed(wa_walreader *r, const void *data, size_t len, wa_first_record *f,
                     bool *ret_more, wa_error *err)
{
    wa_wal_end end = WA_WAL_MORE;
    wa_status status = wa_walreader_feed(r, data, len, take_first, f, &end, err);
    *ret_more = status == WA_OK && end == WA_WAL_MORE;
    if (status == WA_CORRUPT || status == WA_CONFLICT || status == WA_CANCELLED)
        status = WA_OK;
    if (status == WA_OK)
        wa_error_clear(err);
    return status;
}

int
wa_branch_open_segment(const wa_branch_question *q, wa_segno segno)
{
    char name[WA_SEGMENT_NAME];
    uint64_t size = wa_repo_cluster(q->repo)->segment_size;
    struct stat st;
    if (q->wal_dir == NULL)
        return -1;
    wa_segment_name(q->tli, segno, size, name);
    WA_CLEANUP(wa_freep) char *path = wa_path_join(q->wal_dir, name);
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || (uint64_t)st.st_size != size)
        return -1;
    int opened = fd;
    fd = -1;
    return opened;
}

/* Feed a local segment file; a missing one is the end of the walk. */
static wa_status
feed_file(const wa_branch_question *q, wa_segno segno, wa_walreader *r, wa_first_record *f,
          bool *ret_more, wa_error *err)
{
    uint64_t size = wa_repo_cluster(q->repo)->segment_size;
    WA_CLEANUP(wa_closep) int fd = wa_branch_open_segment(q, segno);
    *ret_more = false;
    if (fd < 0)
        return WA_OK;
    WA_CLEANUP(wa_freep) void *piece = wa_malloc(FEED_BYTES);
    bool more = true;
    for (uint64_t at = 0; at < size && more; at += FEED_BYTES) {
        size_t len = size - at < FEED_BYTES ? (size_t)(size - at) : FEED_BYTES;
        WA_TRY(wa_pread_all(fd, piece, len, (off_t)at, "pg_wal", err));
        WA_TRY(wa_first_record_feed(r, piece, len, f, &more, err));
    }
    *ret_more = more;
    return WA_OK;
}

/* The first record at or after the fork, from the given bytes or local files. It may go on in the
 * next segment. */
static wa_status
find_first_record(const wa_branch_question *q, wa_lsn fork, wa_first_record *f, wa_error *err)
{
    uint64_t size = wa_repo_cluster(q->repo)->segment_size;
    wa_segno segno = wa_segno_of(fork, size);
    bool more = false;
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(size);
    wa_walreader_expect_system(r, wa_repo_cluster(q->repo)->system_identifier);
    wa_walreader_lenient(r, true);
    wa_walreader_start(r, wa_segment_start(segno, size), 0);
    f->from = fork;
    if (q->data != NULL && q->segno == segno)
        WA_TRY(wa_first_record_feed(r, q->data, size, f, &more, err));
    else
        WA_TRY(feed_file(q, segno, r, f, &more, err));
    if (more && !f->found && wa_walreader_in_record(r))
        WA_TRY(feed_file(q, segno + 1, r, f, &more, err));
    return WA_OK;
}

static wa_status
local_history(const wa_branch_question *q, wa_buf *ret, wa_error *err)
{
    char name[WA_SEGMENT_NAME];
    if (q->wal_dir == NULL)
        return wa_error_set(err, WA_NOT_FOUND, "no local directory");
    WA_CLEANUP(wa_freep)
    char *path = wa_path_join(q->wal_dir, wa_history_name(q->tli, name));
    return wa_file_read(path, WA_HISTORY_MAX, ret, err);
}

static bool
same_bytes(const wa_buf *a, const wa_buf *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* Branches of the timeline in the archive whose history is the given one (any, when empty). */
static wa_status
candidates_of(const wa_branch_question *q, const wa_buf *history, wa_branch **ret,
              size_t *ret_count, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_branch *all = NULL;
    size_t count = 0, kept = 0;
    WA_TRY(wa_branches_of(q->repo, q->tli, &all, &count, err));
    for (size_t i = 0; i < count; i++) {
        WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(WA_HISTORY_MAX);
        if (history->len > 0) {
            wa_status status = wa_history_get(q->repo, &all[i], &text, err);
            if (status != WA_OK && status != WA_NOT_FOUND)
                return status;
            if (status == WA_NOT_FOUND || !same_bytes(&text, history))
                continue;
        }
        all[kept++] = all[i];
    }
    wa_error_clear(err);
    *ret = WA_TAKE(all);
    *ret_count = kept;
    return WA_OK;
}

/* Of several branches: the one that the bytes continue, else the accepted one, else the first; not
 * one that they don't continue, as long as there is another. */
static wa_status
choose(const wa_branch_question *q, const wa_branch *candidates, size_t count, wa_branch_answer *a,
       wa_error *err)
{
    a->branch = candidates[0];
    if (count == 1)
        return WA_OK;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *accepted = NULL;
    WA_TRY(wa_lineage_load(q->repo, &accepted, err));
    WA_TRY(wa_segment_link_read(q, &a->link, err));
    int best = -1;
    for (size_t i = 0; i < count; i++) {
        wa_continues continues = WA_CONTINUES_UNKNOWN;
        WA_TRY(wa_branch_continues(q->repo, &candidates[i], q->segno, &a->link, &continues, err));
        int rank = continues == WA_CONTINUES_YES ? 4 : continues == WA_CONTINUES_UNKNOWN ? 2 : 0;
        if (accepted != NULL && wa_lineage_has(accepted, &candidates[i]))
            rank++;
        if (rank > best)
            a->branch = candidates[i];
        best = rank > best ? rank : best;
    }
    return WA_OK;
}

static bool
is_among(const wa_branch *branch, const wa_branch *all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (wa_branch_eq(branch, &all[i]))
            return true;
    return false;
}

/* The history that nobody settled yet, when there is exactly one. */
static wa_status
pending_history(const wa_branch_question *q, wa_buf *ret, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv texts = {0};
    WA_TRY(wa_history_pending(q->repo, q->tli, &texts, err));
    if (texts.count == 1)
        return wa_buf_append(ret, texts.items[0], strlen(texts.items[0]), err);
    return WA_OK;
}

static wa_status
no_history(const wa_branch_question *q, wa_error *err)
{
    char name[WA_SEGMENT_NAME];
    wa_error_set(err, WA_NOT_FOUND, "history file \"%s\" is neither in pg_wal nor in the archive",
                 wa_history_name(q->tli, name));
    return wa_error_hint(err,
                         "Put \"%s\" into pg_wal or push it with \"walagent archive-push\": "
                         "it says where the timeline begins.",
                         name);
}

static wa_status
name_by_record(const wa_branch_question *q, const wa_buf *history, bool *ret_found, wa_branch *ret,
               wa_error *err)
{
    WA_CLEANUP(wa_history_freep) wa_history *parsed = NULL;
    if (wa_history_parse(q->tli, wa_buf_str(history), history->len, &parsed, err) != WA_OK)
        return wa_error_wrap(err, "history of timeline %u", q->tli);
    wa_first_record f = {.bytes = WA_BUF_INIT(WA_RECORD_KEEP + WA_RECORD_HEADER)};
    wa_status status = find_first_record(q, wa_history_begin(parsed), &f, err);
    if (status == WA_OK && f.found)
        *ret = wa_branch_of(wa_repo_cluster(q->repo)->system_identifier, q->tli, history->data,
                            history->len, f.bytes.data, f.bytes.len);
    wa_buf_done(&f.bytes);
    *ret_found = status == WA_OK && f.found;
    return status;
}

static wa_status
find_later(const wa_branch_question *q, wa_branch_answer *a, wa_error *err)
{
    wa_status status = local_history(q, &a->history, err);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    WA_CLEANUP(wa_freep) wa_branch *candidates = NULL;
    size_t count = 0;
    WA_TRY(candidates_of(q, &a->history, &candidates, &count, err));
    if (a->history.len == 0 && count == 0)
        WA_TRY(pending_history(q, &a->history, err));
    if (a->history.len > 0)
        WA_TRY(name_by_record(q, &a->history, &a->by_record, &a->branch, err));
    if (!a->by_record) {
        if (count > 0)
            WA_TRY(choose(q, candidates, count, a, err));
        else if (a->history.len > 0)
            a->branch = wa_branch_of(wa_repo_cluster(q->repo)->system_identifier, q->tli,
                                     a->history.data, a->history.len, NULL, 0);
        else
            return no_history(q, err);
    }
    a->in_archive = is_among(&a->branch, candidates, count);
    return WA_OK;
}

wa_status
wa_branch_find(const wa_branch_question *q, wa_branch_answer *ret, wa_error *err)
{
    WA_CLEANUP(wa_branch_answer_done)
    wa_branch_answer a = {.history = WA_BUF_INIT(WA_HISTORY_MAX)};
    if (q->tli == 1) {
        a.branch = wa_branch_of(wa_repo_cluster(q->repo)->system_identifier, 1, NULL, 0, NULL, 0);
        a.in_archive = true;
    } else {
        WA_TRY(find_later(q, &a, err));
    }
    *ret = a;
    a.history = (wa_buf)WA_BUF_INIT(WA_HISTORY_MAX);
    return WA_OK;
}

wa_status
wa_branch_settle(wa_repo *repo, const wa_branch_answer *a, wa_error *err)
{
    if (a->in_archive || a->history.len == 0)
        return WA_OK;
    WA_TRY(wa_history_put(repo, &a->branch, a->history.data, a->history.len, err));
    char sha[WA_SHA256_HEX];
    WA_CLEANUP(wa_freep)
    char *pending = wa_repo_key(repo, "timeline/%08X-pending/%s", a->branch.tli,
                                wa_sha256_short_hex(a->history.data, a->history.len, sha));
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_add(&keys, pending);
    /* Under object lock it stays, and does no harm: the branch has its history now. */
    if (wa_store_delete(wa_repo_store(repo), &keys, err) != WA_OK)
        wa_error_clear(err);
    return WA_OK;
}

wa_status
wa_branch_of_local_history(wa_repo *repo, const char *wal_dir, wa_tli tli, const void *history,
                           size_t len, bool *ret_known, wa_branch *ret, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(WA_HISTORY_MAX);
    WA_TRY(wa_buf_append(&text, history, len, err));
    wa_branch_question q = {.repo = repo, .wal_dir = wal_dir, .tli = tli};
    return name_by_record(&q, &text, ret_known, ret, err);
}

wa_status
wa_branch_by_history(wa_repo *repo, wa_tli tli, const wa_buf *history, wa_branch_answer *ret,
                     wa_error *err)
{
    wa_branch_question q = {.repo = repo, .tli = tli};
    WA_CLEANUP(wa_branch_answer_done)
    wa_branch_answer a = {.history = WA_BUF_INIT(WA_HISTORY_MAX)};
    WA_CLEANUP(wa_lineage_freep) wa_lineage *accepted = NULL;
    WA_CLEANUP(wa_freep) wa_branch *candidates = NULL;
    size_t count = 0, kept = 0;
    WA_TRY(wa_buf_append(&a.history, history->data, history->len, err));
    WA_TRY(candidates_of(&q, history, &candidates, &count, err));
    WA_TRY(wa_lineage_load(repo, &accepted, err));
    for (size_t i = 0; i < count; i++)
        if (!wa_lineage_is_rejected(accepted, &candidates[i]))
            candidates[kept++] = candidates[i];
    if (kept > 0)
        WA_TRY(choose(&q, candidates, kept, &a, err));
    else
        a.branch = wa_branch_of(wa_repo_cluster(repo)->system_identifier, tli, history->data,
                                history->len, NULL, 0);
    a.in_archive = kept > 0;
    *ret = a;
    a.history = (wa_buf)WA_BUF_INIT(WA_HISTORY_MAX);
    return WA_OK;
}
