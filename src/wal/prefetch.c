/*
 * prefetch.c - fetch the segments that a server in recovery will ask for next.
 *
 * One thread listens and plans, one watches the chain, the others fetch. A slot is one segment
 * ahead:
 *   WANTED -> RUNNING -> READY (its file is there) | ABSENT (looked for again a second later)
 * A worker that has nothing to fetch sends what is READY to the disk: the server is going to wait
 * for that. How many fetch at a time, how far and when is prefetch_pace.c's. A slot whose
 * generation is past (another timeline, another chain) is dropped by its worker. A file gets the
 * name by which it is taken under the mutex, so that none of an older generation is ever there to
 * be taken.
 */
#include "prefetch_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/socket.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TICK_MS 500
#define MESSAGE_TIMEOUT_MS 200
#define ABSENT_MS 1000
#define TRUSTED_LOOKS 5 /* at the chain, without an answer */
#define WORKERS_MAX 8
#define LEAST_AHEAD 3 /* at first */

static char *
dir_of(const wa_prefetch *p)
{
    return wa_path_join(p->options->data_dir, WA_HOOK_DIR);
}

/* Segments and parts of segments; a failure here only leaves a file that nobody will take. */
static void
remove_files(const wa_prefetch *p)
{
    WA_CLEANUP(wa_freep) char *path = dir_of(p);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *name = entry->d_name;
        uint64_t tli = 0;
        WA_CLEANUP(wa_freep) char *file = wa_path_join(path, name);
        if ((wa_str_starts(name, "pgsql_tmp_") && wa_parse_hex(name + 10, 8, &tli)) ||
            wa_str_starts(name, "xlogtemp."))
            (void)unlink(file);
    }
    closedir(dir);
}

static void
file_name(const wa_prefetch *p, wa_tli tli, wa_segno segno, char out[static WA_SEGMENT_NAME])
{
    wa_segment_name(tli, segno, p->segment_size, out);
}

static void
remove_segment(const wa_prefetch *p, wa_tli tli, wa_segno segno)
{
    char name[WA_SEGMENT_NAME];
    file_name(p, tli, segno, name);
    WA_CLEANUP(wa_freep) char *path = wa_hook_prefetched_path(p->options->data_dir, name);
    (void)unlink(path);
}

/* Mutex held. Tell whoever waits for the slot; a small frame never blocks. */
static void
answer_waiter(wa_prefetch_slot *slot, bool there)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv message = {0};
    WA_CLEANUP(wa_closep) int fd = slot->waiter;
    slot->waiter = -1;
    wa_strv_add(&message, there ? "ok" : "no");
    if (fd >= 0 && wa_socket_send(fd, &message, &ignored) != WA_OK)
        wa_error_clear(&ignored); /* it waits no longer */
}

static void
set_slot(wa_prefetch_slot *slot, wa_slot_state state)
{
    slot->state = state;
    slot->sent = false;
    if (state != WA_SLOT_WANTED && state != WA_SLOT_RUNNING)
        answer_waiter(slot, state == WA_SLOT_READY);
}

/* Mutex held. Nothing that was fetched so far is to be had any more. */
static void
forget_all(wa_prefetch *p)
{
    p->generation++;
    p->in_time = false;
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++) {
        if (p->slots[i].state == WA_SLOT_READY)
            remove_segment(p, p->tli, p->slots[i].segno);
        if (p->slots[i].state != WA_SLOT_RUNNING)
            set_slot(&p->slots[i], WA_SLOT_FREE);
    }
}

static bool
trusts_chain(const wa_prefetch *p)
{
    return p->confirmed != 0 && wa_mono_now() - p->confirmed < TRUSTED_LOOKS * p->options->chain_ms;
}

/* A number of a removed file is soon another one's. */
static bool
is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* A data directory that was made anew under the same name has another prefetcher's files. */
static bool
owns_directory(const wa_prefetch *p)
{
    struct stat now;
    WA_CLEANUP(wa_freep) char *path = wa_hook_prefetch_socket(p->options->data_dir);
    return lstat(path, &now) == 0 && is_same_file(&now, &p->socket);
}

/* ---- plan ---- */

static wa_prefetch_slot *
slot_for(wa_prefetch *p, wa_segno segno)
{
    wa_prefetch_slot *spare = NULL;
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++) {
        wa_prefetch_slot *s = &p->slots[i];
        if (s->state != WA_SLOT_FREE && s->segno == segno)
            return s;
        if (s->state == WA_SLOT_FREE && spare == NULL)
            spare = s;
    }
    return spare;
}

/* Mutex held. What lies behind the position is dropped, what comes next is wanted. */
static void
plan(wa_prefetch *p)
{
    wa_mono now = wa_mono_now();
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++) {
        wa_prefetch_slot *s = &p->slots[i];
        if (s->state == WA_SLOT_FREE || s->state == WA_SLOT_RUNNING || s->segno > p->position)
            continue;
        if (s->state == WA_SLOT_READY)
            remove_segment(p, p->tli, s->segno);
        set_slot(s, WA_SLOT_FREE);
    }
    size_t depth = wa_prefetch_depth(p->least, p->fetch_ms, p->replay_ms, p->options->max_bytes,
                                     p->segment_size);
    for (wa_segno segno = p->position + 1; segno <= p->position + depth; segno++) {
        wa_prefetch_slot *s = slot_for(p, segno);
        if (s == NULL)
            break;
        bool absent = s->state == WA_SLOT_ABSENT; /* then nothing is behind it either */
        if (absent && now < s->again)
            break;
        if (s->state == WA_SLOT_FREE || absent)
            *s = (wa_prefetch_slot){.state = WA_SLOT_WANTED, .segno = segno, .waiter = -1};
        if (absent)
            break; /* until it is there */
    }
    wa_cond_broadcast(&p->cond);
}

/* ---- workers ---- */

/* Mutex held, and released meanwhile. The server fsyncs a restored segment before it reads it (its
 * durable_rename), and waits for that as long as for the file. */
static void
send_to_disk(wa_prefetch *p, wa_prefetch_slot *slot)
{
    char name[WA_SEGMENT_NAME];
    file_name(p, p->tli, slot->segno, name);
    slot->sent = true;
    wa_unlock(&p->mutex);
    WA_CLEANUP(wa_freep) char *path = wa_hook_prefetched_path(p->options->data_dir, name);
    WA_CLEANUP(wa_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) /* else it is taken already */
        wa_file_begin_writeback(fd, 0, p->segment_size);
    wa_lock(&p->mutex);
}

/* Mutex held, and released meanwhile. Its pages are for the next ones: new ones are dear where a
 * hypervisor gives memory page by page, and press tables out of the cache. A standby of this one
 * that lags further behind reads it from the disk. */
static void
let_go(wa_prefetch *p)
{
    char name[WA_SEGMENT_NAME];
    file_name(p, p->tli, ++p->let_go, name);
    wa_unlock(&p->mutex);
    WA_CLEANUP(wa_freep) char *wal = wa_path_join(p->options->data_dir, "pg_wal");
    WA_CLEANUP(wa_freep) char *path = wa_path_join(wal, name);
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        wa_file_let_go(fd, 0);
    wa_lock(&p->mutex);
}

/* What was fetched, before it has its name: a name of this process, for one that had the directory
 * before it was made anew may fetch for another moment. */
static char *
new_path(const wa_prefetch *p, const char *name)
{
    WA_CLEANUP(wa_freep) char *path = wa_hook_prefetched_path(p->options->data_dir, name);
    return wa_format("%s.%d.new", path, (int)getpid());
}

static wa_status
fetch(wa_prefetch *p, wa_tli tli, wa_segno segno)
{
    wa_error ignored = WA_ERROR_INIT;
    char name[WA_SEGMENT_NAME];
    file_name(p, tli, segno, name);
    WA_CLEANUP(wa_freep) char *path = new_path(p, name);
    wa_get_options options = {
        .repo = p->options->repo, .data_dir = p->options->data_dir, .cancel = p->options->cancel};
    wa_get_result result = {0};
    return wa_get_segment(&options, p->options->mode, name, path, true, &result, &ignored);
}

static bool
publish(const wa_prefetch *p, wa_tli tli, wa_segno segno, bool wanted)
{
    char name[WA_SEGMENT_NAME];
    file_name(p, tli, segno, name);
    WA_CLEANUP(wa_freep) char *from = new_path(p, name);
    WA_CLEANUP(wa_freep) char *to = wa_hook_prefetched_path(p->options->data_dir, name);
    if (wanted && rename(from, to) == 0)
        return true;
    (void)unlink(from);
    return false;
}

/* Mutex held. */
static void
finish(wa_prefetch *p, wa_prefetch_slot *slot, uint64_t generation, wa_tli tli, wa_segno segno,
       wa_status status, wa_mono took)
{
    bool wanted =
        generation == p->generation && segno > p->position && trusts_chain(p) && owns_directory(p);
    if (status == WA_OK) {
        p->fetch_ms = wa_prefetch_mean(p->fetch_ms, took);
        wanted = publish(p, tli, segno, wanted);
    }
    slot->again = wa_mono_now() + ABSENT_MS;
    set_slot(slot, !wanted ? WA_SLOT_FREE : status == WA_OK ? WA_SLOT_READY : WA_SLOT_ABSENT);
}

static void *
worker_main(void *arg)
{
    wa_prefetch *p = arg;
    wa_lock(&p->mutex);
    while (!p->stop) {
        wa_mono rest = wa_prefetch_rests_until(p);
        if (wa_mono_now() < rest) {
            (void)wa_cond_wait_until(&p->cond, &p->mutex, rest);
            continue;
        }
        if (wa_prefetch_may_let_go(p)) {
            let_go(p);
            continue;
        }
        wa_prefetch_slot *slot = trusts_chain(p) ? wa_prefetch_next(p) : NULL;
        if (slot == NULL) {
            wa_prefetch_slot *unsent = wa_prefetch_unsent(p);
            if (unsent != NULL) {
                send_to_disk(p, unsent);
                continue;
            }
            wa_cond_wait(&p->cond, &p->mutex);
            continue;
        }
        uint64_t generation = slot->generation = p->generation;
        set_slot(slot, WA_SLOT_RUNNING);
        wa_tli tli = p->tli;
        wa_segno segno = slot->segno;
        wa_unlock(&p->mutex);
        wa_mono began = wa_mono_now();
        wa_status status = fetch(p, tli, segno);
        wa_lock(&p->mutex);
        finish(p, slot, generation, tli, segno, status, wa_mono_now() - began);
        if (slot->state == WA_SLOT_READY)
            plan(p); /* there may be more behind it; one that may not fetch sends it to the disk */
    }
    wa_unlock(&p->mutex);
    return NULL;
}

/* ---- what is asked ---- */

static void
taken(wa_prefetch *p, const char *name)
{
    wa_tli tli = 0;
    wa_segno segno = 0;
    if (!wa_segment_parse(name, p->segment_size, &tli, &segno))
        return;
    WA_LOCK(&p->mutex);
    wa_mono now = wa_mono_now();
    if (tli != p->tli)
        forget_all(p);
    wa_prefetch_note_replay(p, segno, now);
    if (tli != p->tli || segno != p->position + 1)
        p->let_go = segno;
    p->tli = tli;
    p->position = segno;
    p->asked = now;
    p->in_time = wa_prefetch_has(p, segno + 1);
    plan(p);
}

/* The descriptor is taken when somebody has to wait: the server is faster than we thought. */
static void
wanted_now(wa_prefetch *p, const char *name, int *fd)
{
    wa_tli tli = 0;
    wa_segno segno = 0;
    wa_prefetch_slot none = {.waiter = -1};
    WA_LOCK(&p->mutex);
    wa_prefetch_slot *slot = &none;
    if (wa_segment_parse(name, p->segment_size, &tli, &segno) && tli == p->tli)
        for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++)
            if (p->slots[i].state != WA_SLOT_FREE && p->slots[i].segno == segno)
                slot = &p->slots[i];
    answer_waiter(slot, false); /* an earlier call gave up */
    slot->waiter = *fd;
    *fd = -1;
    if (slot->state != WA_SLOT_WANTED && slot->state != WA_SLOT_RUNNING) {
        answer_waiter(slot, slot->state == WA_SLOT_READY);
    } else {
        if (p->least < WA_PREFETCH_SLOTS)
            p->least *= 2;
        plan(p);
    }
}

/* ---- the chain ---- */

static bool
same_chain(const wa_get_chain *a, const wa_get_chain *b)
{
    if (a->steps == NULL || a->limit != b->limit || a->steps->count != b->steps->count)
        return false;
    for (size_t i = 0; i < a->steps->count; i++)
        if (a->steps->steps[i].begin != b->steps->steps[i].begin ||
            !wa_branch_eq(&a->steps->steps[i].branch, &b->steps->steps[i].branch))
            return false;
    return true;
}

/* A segment of a timeline that was left behind a fork is in no way wrong by itself: only the chain
 * tells, and an adoption changes it under us. */
static void *
chain_main(void *arg)
{
    wa_prefetch *p = arg;
    wa_get_options options = {
        .repo = p->options->repo, .data_dir = p->options->data_dir, .cancel = p->options->cancel};
    wa_lock(&p->mutex);
    while (!p->stop) {
        wa_error ignored = WA_ERROR_INIT;
        WA_CLEANUP(wa_get_chain_done) wa_get_chain chain = {0};
        wa_unlock(&p->mutex);
        wa_mono began = wa_mono_now();
        wa_status status = wa_get_chain_load(&options, p->options->mode, &chain, &ignored);
        wa_lock(&p->mutex);
        if (status == WA_OK) {
            if (!same_chain(&p->chain, &chain)) {
                forget_all(p);
                wa_get_chain_done(&p->chain);
                p->chain = chain;
                chain.steps = NULL;
            }
            p->confirmed = began;
            plan(p);
        }
        while (!p->stop && wa_cond_wait_until(&p->cond, &p->mutex, began + p->options->chain_ms))
            continue;
    }
    wa_unlock(&p->mutex);
    return NULL;
}

/* ---- the socket, and the end ---- */

static void
serve_one(wa_prefetch *p, int listener)
{
    wa_error ignored = WA_ERROR_INIT;
    unsigned uid = 0;
    WA_CLEANUP(wa_strv_done) wa_strv message = {0};
    WA_CLEANUP(wa_closep) int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || wa_socket_peer_uid(fd, &uid, &ignored) != WA_OK || (uid != geteuid() && uid != 0))
        return;
    if (wa_socket_receive(fd, NULL, MESSAGE_TIMEOUT_MS, &message, &ignored) != WA_OK ||
        message.count != 2)
        return;
    if (wa_str_eq(message.items[0], "taken"))
        taken(p, message.items[1]);
    else if (wa_str_eq(message.items[0], "want"))
        wanted_now(p, message.items[1], &fd);
}

/* What the restore pinned: a file that is replaced has another identity. */
static struct stat
pinned_chain(const wa_prefetch *p)
{
    struct stat st = {0};
    WA_CLEANUP(wa_freep)
    char *path = wa_path_join(p->options->data_dir, WA_GET_RESTORE_FILE);
    if (stat(path, &st) != 0)
        st = (struct stat){0};
    return st;
}

static bool
in_recovery(const wa_prefetch *p)
{
    WA_CLEANUP(wa_freep) char *standby = wa_path_join(p->options->data_dir, "standby.signal");
    WA_CLEANUP(wa_freep) char *recovery = wa_path_join(p->options->data_dir, "recovery.signal");
    return wa_path_exists(standby) || wa_path_exists(recovery);
}

static bool
is_over(wa_prefetch *p)
{
    struct stat now = pinned_chain(p);
    WA_LOCK(&p->mutex);
    return wa_cancelled(p->options->cancel) || wa_mono_now() - p->asked > p->options->idle_ms ||
           !in_recovery(p) || !is_same_file(&now, &p->pinned) || !owns_directory(p);
}

static void
forget_untrusted(wa_prefetch *p)
{
    WA_LOCK(&p->mutex);
    if (!trusts_chain(p))
        forget_all(p);
}

static void
listen_until_over(wa_prefetch *p, int listener)
{
    while (!is_over(p)) {
        forget_untrusted(p);
        struct pollfd fd = {.fd = listener, .events = POLLIN};
        int ready = poll(&fd, 1, TICK_MS);
        if (ready > 0)
            serve_one(p, listener);
        else if (ready == 0) {
            WA_LOCK(&p->mutex);
            plan(p);
        } else if (errno != EINTR)
            return;
    }
}

static wa_status
start(wa_prefetch *p, int *ret_listener, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *dir = dir_of(p);
    WA_CLEANUP(wa_freep) char *path = wa_hook_prefetch_socket(p->options->data_dir);
    WA_TRY(wa_mkdir_p(dir, 0700, err));
    WA_CLEANUP(wa_closep) int other = -1;
    if (wa_socket_connect(path, 0, &other, err) == WA_OK)
        return wa_error_set(err, WA_CONFLICT, "another prefetcher serves \"%s\"", dir);
    wa_error_clear(err);
    remove_files(p); /* of an earlier recovery: before anybody can take us for their owner */
    WA_TRY(wa_socket_listen(path, ret_listener, err));
    if (lstat(path, &p->socket) != 0)
        return wa_error_errno(err, errno, "could not look at file \"%s\": %m", path);
    return WA_OK;
}

static void
work(wa_prefetch *p, int listener)
{
    wa_error ignored = WA_ERROR_INIT;
    pthread_t threads[WORKERS_MAX], watch;
    size_t count = 0;
    bool watched = wa_thread_start(&watch, "prefetch-chain", chain_main, p, &ignored) == WA_OK;
    while (watched && count < p->options->workers && count < WORKERS_MAX &&
           wa_thread_start(&threads[count], "prefetch", worker_main, p, &ignored) == WA_OK)
        count++;
    if (count > 0) {
        wa_lock(&p->mutex);
        plan(p);
        wa_unlock(&p->mutex);
        listen_until_over(p, listener);
    }
    wa_lock(&p->mutex);
    p->stop = true;
    p->generation++;
    wa_cond_broadcast(&p->cond);
    wa_unlock(&p->mutex);
    for (size_t i = 0; i < count; i++)
        wa_thread_join(threads[i]);
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++)
        answer_waiter(&p->slots[i], false);
    if (watched)
        wa_thread_join(watch);
}

wa_status
wa_prefetch_run(const wa_prefetch_options *options, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_prefetch *p = wa_calloc(1, sizeof *p);
    WA_CLEANUP(wa_closep) int listener = -1;
    p->options = options;
    p->segment_size = wa_repo_cluster(options->repo)->segment_size;
    p->asked = wa_mono_now();
    p->least = LEAST_AHEAD;
    for (size_t i = 0; i < WA_PREFETCH_SLOTS; i++)
        p->slots[i].waiter = -1;
    p->pinned = pinned_chain(p);
    if (options->max_bytes < p->segment_size || options->mode == WA_GET_RAW)
        return WA_OK;
    if (!wa_segment_parse(options->after, p->segment_size, &p->tli, &p->position))
        return wa_error_set(err, WA_INVALID, "\"%s\" is no WAL segment", options->after);
    p->let_go = p->position;
    wa_status status = start(p, &listener, err);
    if (status == WA_CONFLICT) {
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    wa_mutex_init(&p->mutex);
    wa_cond_init(&p->cond);
    work(p, listener);
    /* First nobody can connect, then the files go: what was renamed meanwhile was still ours. */
    if (owns_directory(p)) {
        WA_CLEANUP(wa_freep) char *path = wa_hook_prefetch_socket(options->data_dir);
        (void)unlink(path);
        remove_files(p);
    }
    wa_get_chain_done(&p->chain);
    wa_cond_done(&p->cond);
    wa_mutex_done(&p->mutex);
    return WA_OK;
}
