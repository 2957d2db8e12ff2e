/* Publishes an FLV file with librtmp, as FMLE-like encoders built on it do:
 *
 *     rtmp_publish rtmp://HOST:PORT/APP/STREAM FILE.flv [ROUNDS]
 *
 * Sends each tag when it is due. Exits 2 when the connection is refused, 3 when publishing is, 4
 * when it breaks on the way. */
#include <librtmp/log.h>
#include <librtmp/rtmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint32_t big_endian(const unsigned char *bytes, int count) {
  uint32_t value = 0;
  for (int i = 0; i < count; i++) value = value << 8 | bytes[i];
  return value;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  if (argc < 3) return 64;
  int rounds = argc > 3 ? atoi(argv[3]) : 1;
  FILE *file = fopen(argv[2], "rb");
  if (!file) return 66;

  RTMP *rtmp = RTMP_Alloc();
  RTMP_Init(rtmp);
  RTMP_LogSetLevel(RTMP_LOGINFO);
  if (!RTMP_SetupURL(rtmp, argv[1])) return 64;
  RTMP_EnableWrite(rtmp);
  if (!RTMP_Connect(rtmp, NULL)) return 2;
  if (!RTMP_ConnectStream(rtmp, 0)) return 3;
  fprintf(stderr, "publishing\n");

  double start = seconds();
  uint32_t offset = 0, last = 0;
  for (int round = 0; round < rounds; round++) {
    fseek(file, 13, SEEK_SET); /* the file header and the first back pointer */
    unsigned char head[11];
    while (fread(head, 1, sizeof head, file) == sizeof head) {
      uint32_t size = big_endian(head + 1, 3);
      uint32_t time = (big_endian(head + 4, 3) | (uint32_t)head[7] << 24) + offset;
      unsigned char *tag = malloc(11 + size + 4);
      for (int i = 0; i < 11; i++) tag[i] = head[i];
      tag[4] = time >> 16, tag[5] = time >> 8, tag[6] = time, tag[7] = time >> 24;
      if (fread(tag + 11, 1, size + 4, file) != size + 4) return 65;
      last = time;
      double wait = start + time / 1e3 - seconds();
      if (wait > 0) {
        struct timespec pause = {(time_t)wait, (long)((wait - (time_t)wait) * 1e9)};
        nanosleep(&pause, NULL);
      }
      if (!RTMP_IsConnected(rtmp) || RTMP_Write(rtmp, (char *)tag, 11 + size + 4) <= 0) return 4;
      free(tag);
    }
    offset = (last + 999) / 1000 * 1000; /* the clip is whole seconds long */
  }
  RTMP_Close(rtmp);
  RTMP_Free(rtmp);
  return 0;
}
