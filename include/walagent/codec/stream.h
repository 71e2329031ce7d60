/*
 * walagent/codec/stream.h - sinks (bytes go in) and ranges (bytes are read at offsets).
 *
 * A chain is built from structs that begin with wa_sink. write, finish and free are three different
 * calls, so that committed and abandoned differ: finish makes what was written final, free without
 * a finish before abandons it. A sink is used by one thread. Ranges may be read from several
 * threads.
 */
#ifndef WALAGENT_CODEC_STREAM_H
#define WALAGENT_CODEC_STREAM_H

#include "walagent/base/buf.h"
#include "walagent/base/error.h"
#include "walagent/base/mem.h"

#include <stddef.h>
#include <stdint.h>

typedef struct wa_sink wa_sink;
typedef struct wa_sink_ops {
    /* Takes all of it or fails; after a failure only free may follow. */
    wa_status (*write)(wa_sink *sink, const void *data, size_t len, wa_error *err);
    wa_status (*finish)(wa_sink *sink, wa_error *err); /* NULL: nothing to do at the end */
    void (*free)(wa_sink *sink);
} wa_sink_ops;
struct wa_sink {
    const wa_sink_ops *ops;
};
wa_status wa_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err) WA_MUST_CHECK;
wa_status wa_sink_finish(wa_sink *sink, wa_error *err) WA_MUST_CHECK;
void wa_sink_free(wa_sink *sink); /* NULL is fine */
WA_DEFINE_CLEANUP(wa_sink, wa_sink_free)
wa_sink *wa_sink_to_buf(wa_buf *buf);             /* borrows buf; NO_SPACE at its cap */
wa_sink *wa_sink_to_fd(int fd, const char *name); /* borrows fd; writes sequentially */
/* Into `size` bytes of memory; *filled counts. More bytes: CORRUPT, naming `name` (borrowed). */
wa_sink *wa_sink_to_memory(void *out, size_t size, size_t *filled, const char *name);

typedef struct wa_ranges wa_ranges;
typedef struct wa_ranges_ops {
    /* Exactly len bytes at offset; CORRUPT when the end comes before. */
    wa_status (*read)(wa_ranges *ranges, uint64_t offset, void *out, size_t len, wa_error *err);
    void (*free)(wa_ranges *ranges);
} wa_ranges_ops;
struct wa_ranges {
    const wa_ranges_ops *ops;
    uint64_t size;
    const char *name; /* for messages; borrowed */
};
wa_status wa_ranges_read(wa_ranges *ranges, uint64_t offset, void *out, size_t len,
                         wa_error *err) WA_MUST_CHECK;
/* The bytes where they lie, if they are in memory, as long as that is; else NULL: read them. NULL
 * also when there are not so many. */
const void *wa_ranges_in_memory(const wa_ranges *ranges, uint64_t offset, size_t len);
void wa_ranges_free(wa_ranges *ranges);
WA_DEFINE_CLEANUP(wa_ranges, wa_ranges_free)
wa_ranges *wa_ranges_of_memory(const void *data, size_t len, const char *name); /* borrows both */
wa_status wa_ranges_of_file(const char *path, wa_ranges **ret, wa_error *err) WA_MUST_CHECK;

#endif
