/*
 * walagent/base/bytes.h - integers at byte addresses, in either order, without alignment.
 */
#ifndef WALAGENT_BASE_BYTES_H
#define WALAGENT_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define WA_BYTES_GETPUT(bits)                                                                      \
    static inline uint##bits##_t wa_get_u##bits##le(const void *p)                                 \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof v);                                                                   \
        return le##bits##toh(v);                                                                   \
    }                                                                                              \
    static inline uint##bits##_t wa_get_u##bits##be(const void *p)                                 \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof v);                                                                   \
        return be##bits##toh(v);                                                                   \
    }                                                                                              \
    static inline void wa_put_u##bits##le(void *p, uint##bits##_t v)                               \
    {                                                                                              \
        v = htole##bits(v);                                                                        \
        memcpy(p, &v, sizeof v);                                                                   \
    }                                                                                              \
    static inline void wa_put_u##bits##be(void *p, uint##bits##_t v)                               \
    {                                                                                              \
        v = htobe##bits(v);                                                                        \
        memcpy(p, &v, sizeof v);                                                                   \
    }
WA_BYTES_GETPUT(16)
WA_BYTES_GETPUT(32)
WA_BYTES_GETPUT(64)

#endif
