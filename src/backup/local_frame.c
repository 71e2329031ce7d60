/*
 * local_frame.c - whole frames of a large file: each is read, its pages are checked and summed,
 * and it is hashed and compressed by one worker, without being handed on in between. Content that
 * compresses fast is read as fast as two processors read.
 *
 * A frame ends within a page as a rule. Those pages are read by the caller, before: their beginning
 * goes to the frame's end, the rest to the next frame.
 */
#include "local_internal.h"

#include "walagent/base/crc32c.h"

#include <string.h>

#define STEP (256u * 1024)         /* read, checked and summed while a processor has it at hand */
#define LEAST (4u * WA_FRAME_PACK) /* of a file's rest: at its end one waits for the workers */

typedef struct frame {
    wa_frame_fill fill; /* first: the fill is the frame */
    wa_local *l;
    const wa_local_source *source;
    const wa_local_cache *cache;
    uint64_t offset;
    uint8_t *room;
    size_t len;      /* that the worker reads */
    uint32_t crc;    /* of that */
    size_t edge_len; /* that the caller read, behind it */
    uint32_t edge_crc;
} frame;

struct wa_local_frames {
    wa_local *l;
    frame *ring;
    size_t count, oldest, in_flight;
    uint8_t edge[WA_LOCAL_ALIGN];
};

wa_local_frames *
wa_local_frames_new(wa_local *l)
{
    wa_local_frames *frames = wa_calloc(1, sizeof *frames);
    frames->l = l;
    frames->count = 2 * l->options->jobs + 2;
    frames->ring = wa_calloc(frames->count, sizeof *frames->ring);
    return frames;
}

void
wa_local_frames_free(wa_local_frames *frames)
{
    if (frames == NULL)
        return;
    WA_ASSERT(frames->in_flight == 0);
    wa_freep(&frames->ring);
    wa_freep(&frames);
}

static wa_status
read_frame(wa_frame_fill *fill, wa_error *err)
{
    frame *f = (frame *)fill;
    f->crc = 0;
    for (size_t at = 0, step; at < f->len; at += step) {
        step = f->len - at < STEP ? f->len - at : STEP;
        WA_TRY(wa_local_read(f->source, f->offset + at, f->room + at, step, &f->l->damage, err));
        f->crc = wa_crc32c(f->crc, f->room + at, step);
    }
    return WA_OK;
}

static wa_status
finish_oldest(wa_local_frames *frames, wa_error *err)
{
    frame *f = &frames->ring[frames->oldest];
    wa_packer *packer = frames->l->packer;
    WA_TRY(wa_packer_wait_filled(packer, &f->fill, err));
    wa_packer_add_sum(packer, f->crc, f->len);
    wa_packer_add_sum(packer, f->edge_crc, f->edge_len);
    wa_local_cache_forget(f->cache, f->offset, f->offset + f->len + f->edge_len);
    frames->oldest = (frames->oldest + 1) % frames->count;
    frames->in_flight--;
    return WA_OK;
}

wa_status
wa_local_frames_finish(wa_local_frames *frames, wa_error *err)
{
    while (frames->in_flight > 0)
        WA_TRY(finish_oldest(frames, err));
    return WA_OK;
}

void
wa_local_frames_abandon(wa_local_frames *frames)
{
    wa_error ignored = WA_ERROR_INIT;
    for (; frames->in_flight > 0; frames->in_flight--) {
        frame *f = &frames->ring[frames->oldest];
        if (f->fill.given && wa_packer_wait_filled(frames->l->packer, &f->fill, &ignored) != WA_OK)
            wa_error_clear(&ignored);
        frames->oldest = (frames->oldest + 1) % frames->count;
    }
}

bool
wa_local_frames_can_take(const wa_local_frames *frames, uint64_t rest)
{
    return frames->l->reading.rate == 0 && rest >= LEAST;
}

/* The pages across the frame's end, whose first `part` bytes still fit. */
static wa_status
read_edge(wa_local_frames *frames, frame *f, size_t part, wa_error *err)
{
    f->edge_len = WA_LOCAL_ALIGN;
    WA_TRY(wa_local_read(f->source, f->offset + f->len, frames->edge, WA_LOCAL_ALIGN, &f->l->damage,
                         err));
    f->edge_crc = wa_crc32c(0, frames->edge, WA_LOCAL_ALIGN);
    memcpy(f->room + f->len, frames->edge, part);
    return WA_OK;
}

wa_status
wa_local_frames_take(wa_local_frames *frames, const wa_local_source *source,
                     const wa_local_cache *cache, uint64_t *offset, wa_error *err)
{
    wa_packer *packer = frames->l->packer;
    void *room = NULL;
    size_t left = 0;
    if (frames->in_flight == frames->count)
        WA_TRY(finish_oldest(frames, err));
    WA_TRY(wa_packer_room(packer, &room, &left, err));
    frame *f = &frames->ring[(frames->oldest + frames->in_flight) % frames->count];
    size_t part = left % WA_LOCAL_ALIGN;
    *f = (frame){.fill = {.run = read_frame},
                 .l = frames->l,
                 .source = source,
                 .cache = cache,
                 .offset = *offset,
                 .room = room,
                 .len = left - part};
    wa_local_cache_fetch(cache, *offset, *offset + f->len + WA_LOCAL_ALIGN);
    if (part > 0)
        WA_TRY(read_edge(frames, f, part, err));
    frames->in_flight++;
    WA_TRY(wa_packer_write_later(packer, room, left, &f->fill, err));
    if (part > 0)
        WA_TRY(wa_packer_write_unsummed(packer, frames->edge + part, WA_LOCAL_ALIGN - part, err));
    *offset += f->len + f->edge_len;
    return WA_OK;
}
