/*
 * lookup.c - repository handles of look-ups, and the thread that watches one.
 */
#include "lookup_internal.h"

#include "walagent/base/thread.h"

#include <poll.h>
#include <stdlib.h>

#define IDLE_MAX 4

struct wa_lookup {
    wa_lookups *all;
    const wa_repo *like; /* the agent's handle with the same settings */
    wa_repo *repo;
    wa_cancel cancel;
    wa_cancel over; /* wakes the watch at the end */
    int peer;
    wa_mono deadline;
    pthread_t watch;
};

struct wa_lookups {
    const wa_hook_server_options *hooks;
    wa_cancel *cancel;
    wa_mutex mutex;
    wa_lookup *idle[IDLE_MAX];
    size_t idle_count;
};

static void
lookup_free(wa_lookup *k)
{
    if (k == NULL)
        return;
    wa_repo_free(k->repo);
    wa_cancel_done(&k->cancel);
    wa_cancel_done(&k->over);
    free(k);
}
WA_DEFINE_CLEANUP(wa_lookup, lookup_free)

static void *
watch_main(void *arg)
{
    wa_lookup *k = arg;
    struct pollfd fds[] = {{.fd = k->over.fd, .events = POLLIN},
                           {.fd = k->peer, .events = POLLRDHUP},
                           {.fd = k->all->cancel->fd, .events = POLLIN}};
    while (!wa_cancelled(&k->over)) {
        if (poll(fds, WA_ARRAY_SIZE(fds), wa_mono_left(k->deadline)) < 0)
            continue;
        bool alone = fds[1].revents != 0 || fds[2].revents != 0;
        if (!wa_cancelled(&k->over) && (alone || wa_mono_left(k->deadline) == 0)) {
            wa_cancel_trigger(&k->cancel);
            break;
        }
    }
    return NULL;
}

/* One that is open with the settings of `like`; what has other settings goes. */
static wa_lookup *
take_idle(wa_lookups *l, const wa_repo *like)
{
    WA_LOCK(&l->mutex);
    while (l->idle_count > 0) {
        wa_lookup *k = l->idle[--l->idle_count];
        if (k->like == like)
            return k;
        lookup_free(k);
    }
    return NULL;
}

wa_status
wa_lookup_begin(wa_lookups *l, const wa_repo *like, int fd, wa_mono deadline, wa_lookup **ret,
                wa_error *err)
{
    WA_CLEANUP(lookup_freep) wa_lookup *k = take_idle(l, like);
    if (k == NULL) {
        k = wa_calloc(1, sizeof *k);
        k->all = l;
        k->like = like;
        k->cancel.fd = k->over.fd = -1;
        WA_TRY(wa_cancel_init(&k->cancel, err));
        WA_TRY(l->hooks->open_repo(l->hooks->arg, &k->cancel, &k->repo, err));
    }
    wa_cancel_done(&k->over);
    WA_TRY(wa_cancel_init(&k->over, err));
    k->peer = fd;
    k->deadline = deadline;
    WA_TRY(wa_thread_start(&k->watch, "lookup-watch", watch_main, k, err));
    *ret = WA_TAKE(k);
    return WA_OK;
}

wa_repo *
wa_lookup_repo(wa_lookup *k)
{
    return k->repo;
}

wa_cancel *
wa_lookup_cancel(wa_lookup *k)
{
    return &k->cancel;
}

void
wa_lookup_end(wa_lookup *k)
{
    wa_lookups *l = k->all;
    wa_cancel_trigger(&k->over);
    wa_thread_join(k->watch);
    if (!wa_cancelled(&k->cancel)) {
        WA_LOCK(&l->mutex);
        if (l->idle_count < IDLE_MAX) {
            l->idle[l->idle_count++] = k;
            return;
        }
    }
    lookup_free(k);
}

wa_lookups *
wa_lookups_new(const wa_hook_server_options *hooks, wa_cancel *cancel)
{
    wa_lookups *l = wa_calloc(1, sizeof *l);
    l->hooks = hooks;
    l->cancel = cancel;
    wa_mutex_init(&l->mutex);
    return l;
}

void
wa_lookups_free(wa_lookups *l)
{
    if (l == NULL)
        return;
    while (l->idle_count > 0)
        lookup_free(l->idle[--l->idle_count]);
    wa_mutex_done(&l->mutex);
    free(l);
}
