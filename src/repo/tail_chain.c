/*
 * src/repo/tail_chain.c - how far the chunks of a segment reach without a gap, and their bytes.
 *
 * The chain is followed backwards from the newest chunk (highest epoch, then highest start): a
 * chunk whose base is the segment's start roots it, any other one needs a predecessor that begins
 * before it, reaches its start, and is not of a later epoch. So what a fenced writer appended to an
 * old epoch behind the point where a later epoch took over is never part of it. A chunk that can't
 * be rooted is dropped, with everything that begins at or behind it.
 *
 * Chunks go when the whole segment is there, also between a listing and a look at what it showed:
 * then it is listed again.
 */
#include "walagent/repo/tail.h"

#include "repo_internal.h"
#include "wal_internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define HEADS_AT_ONCE 8
#define LOOKS_MAX 4

typedef struct chain {
    wa_repo *repo;
    wa_branch branch;
    wa_segno segno;
    wa_lsn first; /* the segment's */
    wa_chunks chunks;
    bool *known;      /* public facts were read */
    size_t *links;    /* indices into chunks, newest first */
    size_t count;     /* of links; 0: no bytes */
    size_t batch_end; /* while heads are fetched: the last index of the batch */
    atomic_bool gone; /* a listed chunk isn't there any more */
} chain;

static void
chain_done(chain *c)
{
    wa_chunks_done(&c->chunks);
    free(c->known);
    free(c->links);
}

static wa_status
note_gone(chain *c, wa_status status)
{
    if (status == WA_NOT_FOUND)
        atomic_store(&c->gone, true);
    return status;
}

static wa_status
head_chunk(void *arg, size_t offset, wa_error *err)
{
    chain *c = arg;
    size_t index = c->batch_end - offset;
    wa_chunk *chunk = &c->chunks.items[index];
    if (c->known[index])
        return WA_OK;
    wa_wal_info info = {0};
    WA_TRY(note_gone(c, wa_wal_object_info(c->repo, chunk->key, &info, err)));
    if (info.start != chunk->start || !wa_branch_eq(&info.branch, &c->branch) ||
        info.base < c->first || info.end > c->first + wa_repo_cluster(c->repo)->segment_size)
        return wa_error_set(err, WA_CORRUPT, "chunk \"%s\" has the facts of another place",
                            chunk->key);
    chunk->base = info.base;
    chunk->end = info.end;
    chunk->seal = info.end == info.base;
    chunk->checked = info.checked;
    c->known[index] = true;
    return WA_OK;
}

/* Facts of a chunk; those before it come along, since the walk goes that way. */
static wa_status
know(chain *c, size_t index, wa_error *err)
{
    if (c->known[index])
        return WA_OK;
    bool newest = index == c->chunks.count - 1;
    size_t batch = newest ? 1 : HEADS_AT_ONCE;
    c->batch_end = index;
    return wa_repo_each(c->repo, batch > index + 1 ? index + 1 : batch, head_chunk, c, err);
}

/* Follow the chain back from `index`; *ret_rooted tells whether it reaches the segment's start. */
static wa_status
follow(chain *c, size_t index, bool *ret_rooted, wa_error *err)
{
    c->count = 0;
    for (;;) {
        const wa_chunk *chunk = &c->chunks.items[index];
        c->links[c->count++] = index;
        if (chunk->base == c->first) {
            *ret_rooted = true;
            return WA_OK;
        }
        size_t before = index;
        bool found = false;
        while (!found && before > 0) {
            const wa_chunk *candidate = &c->chunks.items[--before];
            if (candidate->start >= chunk->start)
                continue;
            WA_TRY(know(c, before, err));
            found = !candidate->seal && candidate->end >= chunk->start;
        }
        if (!found) {
            *ret_rooted = false;
            return WA_OK;
        }
        index = before;
    }
}

static wa_status
chain_load(chain *c, wa_error *err)
{
    wa_repo *repo = c->repo;
    c->first = wa_segment_start(c->segno, wa_repo_cluster(repo)->segment_size);
    WA_TRY(wa_tail_list(repo, &c->branch, c->segno, &c->chunks, err));
    c->known = wa_calloc(c->chunks.count + 1, sizeof *c->known);
    c->links = wa_calloc(c->chunks.count + 1, sizeof *c->links);
    bool any = false;
    wa_lsn limit = UINT64_MAX;
    for (size_t i = c->chunks.count; i > 0; i--) {
        const wa_chunk *chunk = &c->chunks.items[i - 1];
        if (chunk->start >= limit)
            continue;
        WA_TRY(know(c, i - 1, err));
        if (chunk->seal)
            continue;
        bool rooted = false;
        WA_TRY(follow(c, i - 1, &rooted, err));
        if (rooted)
            return WA_OK;
        any = true;
        limit = chunk->start;
    }
    c->count = 0;
    char name[WA_SEGMENT_NAME];
    wa_segment_name(c->branch.tli, c->segno, wa_repo_cluster(repo)->segment_size, name);
    if (any)
        return wa_error_set(err, WA_CORRUPT, "the first chunk of segment \"%s\" is missing", name);
    return wa_error_set(err, WA_NOT_FOUND, "the archive has no chunk of segment \"%s\"", name);
}

/* *ret_again: chunks went meanwhile, and are to be looked for once more. */
static wa_status
again(chain *c, wa_status status, int look, bool *ret_again, wa_error *err)
{
    bool gone = status == WA_NOT_FOUND && atomic_load(&c->gone);
    *ret_again = gone && look + 1 < LOOKS_MAX;
    if (!gone)
        return status;
    if (*ret_again) {
        wa_error_clear(err);
        return WA_OK;
    }
    err->status = WA_UNAVAILABLE; /* it is listed: not known to be absent */
    return err->status;
}

static bool
all_checked(const chain *c)
{
    for (size_t i = 0; i < c->count; i++)
        if (!c->chunks.items[c->links[i]].checked)
            return false;
    return true;
}

wa_status
wa_tail_end_again(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_lsn *ret_end,
                  wa_time *ret_modified, bool *ret_gone, bool *ret_checked, wa_error *err)
{
    bool more = true, gone = false;
    wa_status status = WA_OK;
    for (int look = 0; more; look++) {
        WA_CLEANUP(chain_done) chain c = {.repo = repo, .branch = *branch, .segno = segno};
        status = again(&c, chain_load(&c, err), look, &more, err);
        gone = gone || more;
        if (status != WA_OK || more)
            continue;
        const wa_chunk *newest = &c.chunks.items[c.links[0]];
        *ret_end = newest->end;
        if (ret_modified != NULL)
            *ret_modified = newest->modified;
        if (ret_checked != NULL)
            *ret_checked = all_checked(&c);
    }
    if (ret_gone != NULL)
        *ret_gone = gone;
    return status;
}

wa_status
wa_tail_end(wa_repo *repo, const wa_branch *branch, wa_segno segno, wa_lsn *ret_end,
            wa_time *ret_modified, wa_error *err)
{
    return wa_tail_end_again(repo, branch, segno, ret_end, ret_modified, NULL, NULL, err);
}

typedef struct assembly {
    chain *chain;
    char *out;
    wa_wal_facts *facts; /* one a link */
} assembly;

/* Each link fills its own part of the segment: up to where the next one begins. */
static wa_status
read_link(void *arg, size_t i, wa_error *err)
{
    assembly *a = arg;
    chain *c = a->chain;
    const wa_chunk *chunk = &c->chunks.items[c->links[i]];
    uint64_t size = wa_repo_cluster(c->repo)->segment_size;
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(size);
    wa_wal_info info = {0};
    if (note_gone(c, wa_tail_get(c->repo, &c->branch, c->segno, chunk, &bytes, &info, &a->facts[i],
                                 err)) != WA_OK)
        return wa_error_wrap(err, "chunk \"%s\"", chunk->key);
    if (info.base != chunk->base || info.end != chunk->end)
        return wa_error_set(err, WA_CORRUPT, "chunk \"%s\" contradicts its public facts",
                            chunk->key);
    wa_lsn end = i == 0 ? chunk->end : c->chunks.items[c->links[i - 1]].start;
    WA_ASSERT(end > chunk->base && end <= chunk->end);
    if (end < chunk->end) /* the next one counts what ends in both, too */
        a->facts[i].overflow = true;
    memcpy(a->out + (chunk->base - c->first), bytes.data, end - chunk->base);
    return WA_OK;
}

static wa_status
assemble(chain *c, void *out, wa_lsn *ret_end, wa_wal_facts *ret_facts, wa_error *err)
{
    WA_TRY(chain_load(c, err));
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_calloc(c->count, sizeof *facts);
    for (size_t i = 0; i < c->count; i++)
        wa_wal_facts_init(&facts[i]);
    assembly a = {c, out, facts};
    WA_TRY(wa_repo_each(c->repo, c->count, read_link, &a, err));
    wa_lsn end = c->chunks.items[c->links[0]].end;
    uint64_t filled = end - c->first;
    memset((char *)out + filled, 0, wa_repo_cluster(c->repo)->segment_size - filled);
    if (ret_facts != NULL) {
        wa_wal_facts merged = facts[c->count - 1];
        for (size_t i = c->count - 1; i > 0; i--)
            wa_wal_facts_merge(&merged, &facts[i - 1]);
        *ret_facts = merged;
    }
    *ret_end = end;
    return WA_OK;
}

wa_status
wa_tail_assemble(wa_repo *repo, const wa_branch *branch, wa_segno segno, void *out, wa_lsn *ret_end,
                 wa_wal_facts *ret_facts, wa_error *err)
{
    bool more = true;
    wa_status status = WA_OK;
    for (int look = 0; more; look++) {
        WA_CLEANUP(chain_done) chain c = {.repo = repo, .branch = *branch, .segno = segno};
        status = again(&c, assemble(&c, out, ret_end, ret_facts, err), look, &more, err);
    }
    return status;
}
