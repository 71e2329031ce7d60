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

#endif
