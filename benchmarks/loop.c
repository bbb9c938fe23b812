/* The least that scoring words and pairs can cost: lower-case ASCII, hash, add a weight. No Unicode, no masks, no
   character n-grams, no presence, no authors. `loop FILE BITS REPEATS` prints the seconds of the best pass over a file
   of one message a line, read beforehand. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static float score(const unsigned char *text, size_t size, const unsigned char *fold, const float *weights, int shift) {
    const uint32_t start = 2166136261u, prime = 16777619u;
    uint32_t word = start, previous = 0;
    float sum = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = fold[text[i]];
        if (c) {
            word = (word ^ c) * prime;
            continue;
        }
        if (word != start) {
            sum += weights[word >> shift];
            if (previous)
                sum += weights[((previous ^ word * 31) * 2654435769u) >> shift];
            previous = word;
            word = start;
        }
        if (text[i] == '\n')
            previous = 0;
    }
    return sum;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    FILE *file = fopen(argv[1], "rb");
    int bits = atoi(argv[2]), repeats = atoi(argv[3]);
    if (!file || fseek(file, 0, SEEK_END))
        return 1;
    size_t size = ftell(file);
    rewind(file);
    unsigned char *text = malloc(size), fold[256] = {0};
    float *weights = malloc(sizeof(float) << bits);
    if (!text || !weights || fread(text, 1, size, file) != size)
        return 1;
    for (int c = 0; c < 256; c++)
        fold[c] = c >= 'A' && c <= 'Z' ? c + 32 : c >= 'a' && c <= 'z' ? c : c >= '0' && c <= '9' ? c : c >= 128 ? c : 0;
    for (size_t i = 0; i < (size_t)1 << bits; i++)
        weights[i] = (float)(i * 2654435761u >> 8 & 1023) - 512;
    double best = 1e9;
    float sum = 0;
    for (int i = 0; i < repeats; i++) {
        double begin = now();
        sum += score(text, size, fold, weights, 32 - bits);
        double seconds = now() - begin;
        best = seconds < best ? seconds : best;
    }
    printf("%.9f %g\n", best, sum);
    return 0;
}
