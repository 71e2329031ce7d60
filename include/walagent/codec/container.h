/*
 * walagent/codec/container.h - the one container of every object: seekable zstd with facts.
 *
 *   zstd frame ... zstd frame            independent, content size and checksum set
 *   [skippable 0x184D2A5B]               bulky facts (JSON, own layout), optional
 *   skippable 0x184D2A5A                 facts: JSON, `"v":1` first, `"crc"` last, at most 16 KiB
 *   skippable 0x184D2A5E                 seek table of zstd's seekable format, without checksums;
 *                                        lists every frame before it, skippable ones with size 0
 *
 * The facts' members: "v", "kind", the caller's own, "raw_size", "xxh3" (XXH3-128 of the raw bytes,
 * 32 hex digits), "frames_crc" (CRC-32C, 8 hex digits, of the stored bytes of the data frames: a
 * decoder does not look at every bit), "frame_sums" (where it was asked for: the checksum that ends
 * each data frame, 8 hex digits, in order), "bulky_size" (bytes of the bulky JSON; only with one)
 * and "crc" (CRC-32C of the JSON text from its start up to the comma before "crc"; a skippable
 * frame has no checksum of its own). The bulky JSON is sealed likewise: "v" first, "crc" last.
 *
 * Guarantees:
 *   (1) `zstd -d` gives the raw bytes.
 *   (2) what a reader returns was checked: every frame's zstd checksum and declared size; reading
 *       the whole also checks raw_size, xxh3 and frames_crc, so no flipped bit goes unnoticed.
 *   (3) frames are written in order whatever the number of workers: the bytes of an object depend
 *       on content, level and frame size only.
 *
 * Memory: (workers + 2) x frame_size at most, their compressed bytes, and for each worker a zstd
 * context and the compressed bound of a frame. With a pool it is the pool's: what a writer does not
 * use at the moment serves the next. Without one: a frame, its bound and a context, the writer's
 * own or lent.
 *
 * Level 3 has smaller match tables than zstd's own; the other levels are zstd's.
 *
 * Threads: a writer belongs to one thread. A reader may be used from several, each with its
 * decoder.
 *
 * Errors: CORRUPT names the object and what is wrong; UNSUPPORTED a newer version; INVALID facts
 * that are too large. After a writer's call has failed only free may follow; it waits for jobs that
 * still run.
 *
 * Source: zstd_compression_format.md, "Skippable Frames"; zstd's contrib/seekable_format.
 */
#ifndef WALAGENT_CODEC_CONTAINER_H
#define WALAGENT_CODEC_CONTAINER_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/base/thread.h"
#include "walagent/codec/hash.h"
#include "walagent/codec/json.h"
#include "walagent/codec/stream.h"

#define WA_FACTS_MAX 16384
#define WA_BULKY_MAX (16u * 1024 * 1024)
#define WA_FRAME_MAX (8u * 1024 * 1024)  /* readers refuse frames with more content */
#define WA_FRAMES_MAX (1u << 20)         /* and objects with more frames */
#define WA_FRAME_TAIL (1024u * 1024)     /* frames of tail chunks */
#define WA_FRAME_WAL (2u * 1024 * 1024)  /* frames of whole segments */
#define WA_FRAME_PACK (4u * 1024 * 1024) /* frames of packs */

typedef struct wa_container_writer wa_container_writer;
/* Borrows sink and pool (NULL: compress in this thread). level: 1..19. frame_size: 1..WA_FRAME_MAX.
 */
wa_status wa_container_writer_new(wa_sink *to, wa_pool *pool, int level, size_t frame_size,
                                  wa_container_writer **ret, wa_error *err) WA_MUST_CHECK;
/* What a writer without a pool works with: memory for a frame, room for what becomes of it, and
 * zstd's tables. The next writer gets it with its pages. */
typedef struct wa_compressor wa_compressor;
wa_compressor *wa_compressor_new(void);
void wa_compressor_free(wa_compressor *c); /* NULL is fine */
/* Before anything is written, without a pool: the writer works with this one until finish has
 * returned OK, or it is freed; nobody else does meanwhile. */
void wa_container_use(wa_container_writer *w, wa_compressor *c);
/* Before anything is written: the facts get "frame_sums", so that a reader finds out without a
 * request a frame which of them it has the content of. They are left out where there are so many
 * that they would not fit. */
void wa_container_publish_sums(wa_container_writer *w);
/* Bytes that were put into wa_container_space's room beforehand stay where they are. */
wa_status wa_container_write(wa_container_writer *w, const void *data, size_t len,
                             wa_error *err) WA_MUST_CHECK;
/* Without a copy: data must stay as it is until finish has returned, or the writer is freed. */
wa_status wa_container_write_lent(wa_container_writer *w, const void *data, size_t len,
                                  wa_error *err) WA_MUST_CHECK;
/* Without a copy: room in the current frame (at least 1 byte; may wait for a worker), then say how
 * much of it was filled. */
wa_status wa_container_space(wa_container_writer *w, void **ret_room, size_t *ret_len,
                             wa_error *err) WA_MUST_CHECK;
wa_status wa_container_advance(wa_container_writer *w, size_t len, wa_error *err) WA_MUST_CHECK;
/*
 * With a pool: what comes next, to the current frame's end, is brought by the worker that is going
 * to compress it. Call this after wa_container_space, then advance by all of the room (or write
 * from there), part of which the caller may have filled himself; `run` fills the rest. The fill
 * stays the caller's; once it was given to a worker, until it was waited for. One that fails breaks
 * the writer, with its error.
 */
typedef struct wa_frame_fill {
    wa_status (*run)(struct wa_frame_fill *fill, wa_error *err); /* any thread */
    bool given;  /* to a worker: it is going to run */
    bool filled; /* guarded by the writer */
    wa_status status;
    wa_error error;
} wa_frame_fill;
void wa_container_fill_later(wa_container_writer *w, wa_frame_fill *fill);
/* Until it has run; how that went. Only for one that was given to a worker, as it was when the call
 * that completed the frame returned OK. */
wa_status wa_container_wait_filled(wa_container_writer *w, wa_frame_fill *fill,
                                   wa_error *err) WA_MUST_CHECK;
/* Compresses what there is of the current frame; returns when at most so many are at the workers.
 */
wa_status wa_container_settle(wa_container_writer *w, size_t most_at_workers,
                              wa_error *err) WA_MUST_CHECK;
uint64_t wa_container_raw_size(const wa_container_writer *w);
uint64_t wa_container_stored_size(const wa_container_writer *w); /* so far; exact after finish */
/* XXH3-128 of the raw bytes so far. With a pool it may wait for the workers, who hash. */
char *wa_container_hash(wa_container_writer *w, char out[static WA_XXH_HEX]);
/* Writes what is left, the facts (borrowed; members as the caller wants them, "kind" among them,
 * none of the container's own) and the seek table. bulky (an object) may be NULL. Does not finish
 * the sink. */
wa_status wa_container_finish(wa_container_writer *w, const json_t *facts, const json_t *bulky,
                              wa_error *err) WA_MUST_CHECK;
void wa_container_writer_free(wa_container_writer *w);
WA_DEFINE_CLEANUP(wa_container_writer, wa_container_writer_free)

/* One shot for small objects: raw bytes and facts to a container in memory, appended to ret. */
wa_status wa_container_pack(const void *data, size_t len, int level, const json_t *facts,
                            const json_t *bulky, wa_buf *ret, wa_error *err) WA_MUST_CHECK;

typedef struct wa_frame_info {
    uint64_t raw_offset;
    uint64_t offset; /* in the object */
    uint32_t raw_size;
    uint32_t size; /* compressed */
} wa_frame_info;

typedef struct wa_container wa_container;
/* Reads the end of the object (one range of up to 64 KiB, a second one only when that was too
 * small). Borrows ranges. */
wa_status wa_container_open(wa_ranges *from, wa_container **ret, wa_error *err) WA_MUST_CHECK;
void wa_container_free(wa_container *c);
WA_DEFINE_CLEANUP(wa_container, wa_container_free)
const json_t *wa_container_facts(const wa_container *c);
wa_status wa_container_bulky(wa_container *c, json_t **ret,
                             wa_error *err) WA_MUST_CHECK; /* NOT_FOUND: none */
uint64_t wa_container_size(const wa_container *c);         /* raw bytes */
size_t wa_container_frames(const wa_container *c);         /* data frames only */
wa_frame_info wa_container_frame(const wa_container *c, size_t index);
/* The frame that holds it; past the end: the number of frames. */
size_t wa_container_frame_at(const wa_container *c, uint64_t raw_offset);

/* Are the frames' checksums known from the facts? If not, wa_container_frame_sum reads one: four
 * bytes at the frame's end. */
bool wa_container_has_sums(const wa_container *c);
/* The checksum of a frame's content (hash.h: wa_frame_sum). */
wa_status wa_container_frame_sum(const wa_container *c, size_t index, uint32_t *ret,
                                 wa_error *err) WA_MUST_CHECK;

/* A decompression context; one a thread. */
typedef struct wa_decoder wa_decoder;
wa_decoder *wa_decoder_new(void);
void wa_decoder_free(wa_decoder *d);
WA_DEFINE_CLEANUP(wa_decoder, wa_decoder_free)
/* Decode a frame whose compressed bytes the caller has. `out` has info->raw_size bytes. */
wa_status wa_container_decode(const wa_container *c, wa_decoder *d, const wa_frame_info *info,
                              const void *compressed, void *out, wa_error *err) WA_MUST_CHECK;
/* Fetch and decode the raw range [offset, offset+len) into out. */
wa_status wa_container_read(const wa_container *c, wa_decoder *d, uint64_t offset, void *out,
                            size_t len, wa_error *err) WA_MUST_CHECK;
/* Everything, in order, into a sink (not finished), decompressed by the pool (NULL: this thread);
 * checks raw_size and xxh3. */
wa_status wa_container_read_all(const wa_container *c, wa_pool *pool, wa_sink *to,
                                wa_error *err) WA_MUST_CHECK;
/* The same, and *ret_wrong_sums: of how many frames the facts tell another checksum
 * (wa_container_has_sums) than the content has. */
wa_status wa_container_check_all(const wa_container *c, wa_pool *pool, wa_sink *to,
                                 size_t *ret_wrong_sums, wa_error *err) WA_MUST_CHECK;
/*
 * The same for one who does more with a frame than write it: `decoded` is called by the thread that
 * decoded it, as soon as the frame's own checksum was right, for several at once and in any order;
 * `next` by the caller's thread, in order. Either may be NULL. What they get is verified as a whole
 * only when OK is returned.
 */
typedef struct wa_frame_taker {
    wa_status (*decoded)(void *arg, uint64_t raw_offset, const void *raw, size_t len,
                         wa_error *err);
    wa_status (*next)(void *arg, const void *raw, size_t len, wa_error *err);
    void *arg;
} wa_frame_taker;
wa_status wa_container_read_frames(const wa_container *c, wa_pool *pool,
                                   const wa_frame_taker *taker, wa_error *err) WA_MUST_CHECK;
/* The same straight into memory for the whole content (INVALID when that has another size). */
wa_status wa_container_read_into(const wa_container *c, wa_pool *pool, void *out, size_t len,
                                 wa_error *err) WA_MUST_CHECK;
/* One shot: a whole object in memory to its raw bytes, appended to ret (NO_SPACE at its cap), and
 * facts (ret_facts may be NULL: not wanted). Every byte of the object is checked, the bulky facts
 * too. */
wa_status wa_container_unpack(const void *data, size_t len, const char *name, wa_buf *ret,
                              json_t **ret_facts, wa_error *err) WA_MUST_CHECK;

#endif
