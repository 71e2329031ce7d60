/*
 * packing.c - one pack: tar in a container in an object; and an object's end, which another thread
 * brings about while the next pack is being filled: the last frames are compressed, parts are sent,
 * and the store makes the object durable.
 */
#include "backup_internal.h"

#include <string.h>

/* Large parts are for large objects: with smaller ones the first is sent sooner, the last is over
 * sooner, and two packs at a time need no more memory than one had. A file that does not fit into
 * as many as S3 takes, even where it does not get smaller, has parts as large as the store's. */
#define PART_SIZE (8u * 1024 * 1024)
#define PARTS_MAX 9000u

struct wa_packing {
    wa_sink *object;
    wa_container_writer *container;
    wa_sink *raw;
    wa_tar_writer *tar;
    const char *label;
    bool large_parts;
    wa_ending ending;
};

typedef struct container_sink {
    wa_sink base;
    wa_container_writer *to;
} container_sink;

static wa_status
container_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    return wa_container_write(((container_sink *)sink)->to, data, len, err);
}

static wa_status
container_sink_finish(wa_sink *sink, wa_error *err)
{
    (void)sink;
    (void)err;
    return WA_OK;
}

static void
container_sink_free(wa_sink *sink)
{
    wa_freep(&sink);
}

wa_sink *
wa_sink_to_container(wa_container_writer *w)
{
    static const wa_sink_ops ops = {container_sink_write, container_sink_finish,
                                    container_sink_free};
    container_sink *s = wa_calloc(1, sizeof *s);
    s->base.ops = &ops;
    s->to = w;
    return &s->base;
}

static char *
object_meta(wa_repo *repo, const char *label, const char *kind)
{
    WA_CLEANUP(wa_json_freep) json_t *meta = json_object();
    wa_json_set_i64(meta, "v", 1);
    wa_json_set_string(meta, "kind", kind);
    wa_json_set_string(meta, "label", label);
    wa_json_set_string(meta, "writer", wa_repo_writer(repo));
    return wa_json_dump(meta, 0);
}

wa_status
wa_backup_open_object(wa_repo *repo, const char *label, const char *name, const char *kind,
                      size_t upload_threads, wa_sink **ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(repo, label, name);
    WA_CLEANUP(wa_freep) char *meta = object_meta(repo, label, kind);
    return wa_store_sink_new(wa_repo_store(repo), key, meta, upload_threads, ret, err);
}

static wa_status
end_object(wa_ending *e)
{
    WA_CLEANUP(wa_json_freep) json_t *facts = json_object();
    wa_json_set_string(facts, "kind", e->kind);
    wa_json_set_string(facts, "label", e->label);
    WA_TRY(wa_container_finish(e->container, facts, NULL, &e->error));
    return wa_sink_finish(e->object, &e->error);
}

static void *
run_ending(void *arg)
{
    wa_ending *e = arg;
    e->status = end_object(e);
    atomic_store(&e->ended, true);
    return NULL;
}

wa_status
wa_ending_begin(wa_ending *e, wa_container_writer *container, wa_sink *object, const char *label,
                const char *kind, wa_error *err)
{
    WA_ASSERT(!e->running);
    e->container = container;
    e->object = object;
    e->label = label;
    e->kind = kind;
    WA_TRY(wa_thread_start(&e->thread, "end object", run_ending, e, err));
    e->running = true;
    return WA_OK;
}

wa_status
wa_ending_wait(wa_ending *e, wa_error *err)
{
    WA_ASSERT(e->running);
    wa_ending_join(e);
    if (e->status != WA_OK)
        *err = e->error;
    return e->status;
}

void
wa_ending_join(wa_ending *e)
{
    if (e->running)
        wa_thread_join(e->thread);
    e->running = false;
}

wa_status
wa_packing_open(const wa_packing_options *o, size_t number, uint64_t first_size, wa_packing **ret,
                wa_error *err)
{
    WA_CLEANUP(wa_packing_freep) wa_packing *p = wa_calloc(1, sizeof *p);
    char name[32];
    snprintf(name, sizeof name, "pack-%05zu.tar.zst", number);
    p->label = o->label;
    WA_TRY(
        wa_backup_open_object(o->repo, o->label, name, "pack", o->upload_threads, &p->object, err));
    p->large_parts = wa_packing_needs_large_parts(first_size);
    if (!p->large_parts && wa_store_get_traits(wa_repo_store(o->repo))->part_size > PART_SIZE)
        wa_store_sink_set_part_size(p->object, PART_SIZE);
    p->object = wa_sink_paced(p->object, o->pace, o->cancel);
    WA_TRY(
        wa_container_writer_new(p->object, o->pool, o->level, WA_FRAME_PACK, &p->container, err));
    wa_container_publish_sums(p->container);
    p->raw = wa_sink_to_container(p->container);
    WA_TRY(wa_tar_writer_new(p->raw, &p->tar, err));
    *ret = WA_TAKE(p);
    return WA_OK;
}

bool
wa_packing_needs_large_parts(uint64_t first_size)
{
    return first_size > (uint64_t)PART_SIZE * PARTS_MAX;
}

bool
wa_packing_has_large_parts(const wa_packing *p)
{
    return p->large_parts;
}

wa_tar_writer *
wa_packing_tar(const wa_packing *p)
{
    WA_ASSERT(!p->ending.running);
    return p->tar;
}

wa_container_writer *
wa_packing_container(const wa_packing *p)
{
    WA_ASSERT(!p->ending.running);
    return p->container;
}

wa_status
wa_packing_begin_close(wa_packing *p, size_t most_at_workers, wa_error *err)
{
    WA_TRY(wa_tar_writer_finish(p->tar, err));
    WA_TRY(wa_container_settle(p->container, most_at_workers, err));
    return wa_ending_begin(&p->ending, p->container, p->object, p->label, "pack", err);
}

bool
wa_packing_has_ended(wa_packing *p)
{
    return atomic_load(&p->ending.ended);
}

wa_status
wa_packing_end_close(wa_packing *p, wa_backup_info *info, wa_error *err)
{
    WA_TRY(wa_ending_wait(&p->ending, err));
    info->packs = wa_reallocarray(info->packs, info->pack_count + 1, sizeof *info->packs);
    wa_backup_pack *pack = &info->packs[info->pack_count++];
    *pack = (wa_backup_pack){.raw_size = wa_container_raw_size(p->container),
                             .stored_size = wa_container_stored_size(p->container)};
    wa_container_hash(p->container, pack->xxh3);
    info->stored_bytes += pack->stored_size;
    return WA_OK;
}

void
wa_packing_free(wa_packing *p)
{
    if (p == NULL)
        return;
    wa_ending_join(&p->ending);
    wa_tar_writer_free(p->tar);
    wa_sink_free(p->raw);
    wa_container_writer_free(p->container);
    wa_sink_free(p->object);
    wa_freep(&p);
}
