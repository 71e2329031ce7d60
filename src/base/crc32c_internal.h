/*
 * crc32c_internal.h - the implementation for processors without CRC instructions, for tests.
 */
#ifndef WALAGENT_CRC32C_INTERNAL_H
#define WALAGENT_CRC32C_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

/* As wa_crc32c and wa_crc32c_record. */
uint32_t wa_crc32c_portable(uint32_t crc, const void *data, size_t len);
uint32_t wa_crc32c_record_portable(const void *record, size_t tot_len);

#endif
