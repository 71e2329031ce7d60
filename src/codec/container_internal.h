/*
 * codec/container_internal.h - what the container's writer and reader share.
 *
 * Skippable frame        0  u32le  magic 0x184D2A50 .. 0x184D2A5F
 *                        4  u32le  size of the content
 *                        8         content
 * Seek table (content)   0  n x { u32le size in the object, u32le raw size }
 *                     8n+0  u32le  n
 *                     8n+4  u8     descriptor, 0: no checksums per frame
 *                     8n+5  u32le  magic 0x8F92EAB1
 * Sealed JSON               {"v":1, members ... ,"crc":"xxxxxxxx"}; the CRC-32C covers everything
 * before ,"crc"
 */
#ifndef WALAGENT_CODEC_CONTAINER_INTERNAL_H
#define WALAGENT_CODEC_CONTAINER_INTERNAL_H

#include "walagent/codec/container.h"

#include <stdint.h>

#define WA_MAGIC_FACTS UINT32_C(0x184D2A5A)
#define WA_MAGIC_BULKY UINT32_C(0x184D2A5B)
#define WA_MAGIC_SEEK_TABLE UINT32_C(0x184D2A5E)
#define WA_MAGIC_SEEKABLE UINT32_C(0x8F92EAB1)
#define WA_CONTAINER_VERSION 1
#define WA_SKIPPABLE_HEADER 8
#define WA_SEEK_ENTRY 8
#define WA_SEEK_FOOTER 9
#define WA_CRC_HEX 9
#define WA_SUM_DIGITS 8
#define WA_SUMS_MAX 1500 /* 12,000 digits: the facts have 16 KiB */

struct wa_container {
    wa_ranges *from;
    json_t *facts;
    wa_frame_info *frames; /* data frames */
    size_t frame_count;
    uint64_t raw_size;
    char xxh3[WA_XXH_HEX];
    char frames_crc[WA_CRC_HEX];
    const char *sums;      /* of the facts, WA_SUM_DIGITS a frame; NULL: there are none */
    uint64_t bulky_offset; /* of the skippable frame */
    uint32_t bulky_size;   /* of the JSON; 0: there is none */
};

/* As the facts tell it; c->sums is there. */
uint32_t wa_container_published_sum(const wa_container *c, size_t index);
char *wa_container_crc_text(uint32_t crc, char out[static WA_CRC_HEX]);
/* The text of the object with "v" first and "crc" last. */
char *wa_container_seal(const json_t *members);
/* Checks "crc" and "v", parses. */
wa_status wa_container_unseal(const char *text, size_t len, const char *what, json_t **ret,
                              wa_error *err) WA_MUST_CHECK;

#endif
