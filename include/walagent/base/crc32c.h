/*
 * walagent/base/crc32c.h - CRC-32C (Castagnoli), as PostgreSQL's WAL, control file and manifests
 * use it.
 *
 * SSE4.2 (three streams) or ARMv8 CRC instructions where the processor has them, slice-by-8
 * otherwise; chosen once at run time. Source: RFC 3720 appendix B.4 (polynomial and test vectors).
 */
#ifndef WALAGENT_BASE_CRC32C_H
#define WALAGENT_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Start with 0; the result of one call is the `crc` of the next. The value is finalised each time
 * (crc32c of "123456789" is 0xE3069283). */
uint32_t wa_crc32c(uint32_t crc, const void *data, size_t len);

/* Of two pieces' bytes, the second behind the first, from the value of each alone. Takes about a
 * thousand steps whatever the length. */
uint32_t wa_crc32c_combine(uint32_t first, uint32_t second, uint64_t second_len);

/* What a WAL record's header must hold in its bytes 20 to 24: over its bytes 24 to tot_len (at
 * least 24), then 0 to 20. For records that lie whole in memory, with the padding to a multiple of
 * 8: that may be read, and makes no difference. Their usual length is a hundred bytes, for which
 * this is faster than two calls of wa_crc32c. */
uint32_t wa_crc32c_record(const void *record, size_t tot_len);

#endif
