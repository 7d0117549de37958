/* The first and the last layer of a perceptron, each in one pass over memory: see outer_layers.py.

   WIDTH, a multiple of LANES, is that of the hidden layers. Weights are (in, WIDTH) and (WIDTH, 3), each followed by
   its bias in memory. SiLU is v·s with s = sigmoid(v), and its slope s + v·s − v·s·s. */
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define LANES 16
#define IN 4
#define OUT 3
#define AHEAD 16
/* Vectors that go together. */
#define TILE (WIDTH % (4 * LANES) ? 1 : 4)
#define EACH_VECTOR(j) for (int j = 0; j < WIDTH; j += LANES)
#define TILES(j) for (int j = 0; j < WIDTH; j += TILE * LANES)
#define EACH for (int u = 0; u < TILE; u++)

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline Floats load(const float *from) { return *(const Unaligned *)from; }
static inline void store(float *to, Floats value) { *(Unaligned *)to = value; }
static inline void add(float *to, Floats value) { store(to, load(to) + value); }

#ifdef __AVX512F__
static inline Floats bounded(Floats x) {
  return (Floats)_mm512_min_ps(_mm512_max_ps((__m512)x, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(87.0f));
}

/* An estimate to 14 bits and a step of Newton's, to rounding, in less time than a division. */
static inline void reciprocal(const Floats *x, Floats *out) {
  EACH out[u] = (Floats)_mm512_rcp14_ps((__m512)x[u]);
  EACH out[u] += out[u] * (1.0f - x[u] * out[u]);
}
#else
static inline Floats bounded(Floats x) {
  Floats z;
  for (int lane = 0; lane < LANES; lane++) z[lane] = x[lane] > -87.0f ? x[lane] : -87.0f;
  for (int lane = 0; lane < LANES; lane++) z[lane] = z[lane] < 87.0f ? z[lane] : 87.0f;
  return z;
}

static inline void reciprocal(const Floats *x, Floats *out) { EACH out[u] = 1.0f / x[u]; }
#endif

/* out = 1/(1 + e^-x) to rounding; beyond ±87, where e^x leaves the range of float, as there. One operation after the
   other on all vectors of a tile, because each has to wait for the one before it on the same vector. */
static inline void sigmoid(const Floats *x, Floats *out) {
  Floats shifted[TILE], r[TILE], sum[TILE];
  EACH r[u] = bounded(x[u]);
  /* e^-z = 2^k·e^-r. Adding 1.5·2^23 rounds to an integer, and 127 more makes its low bits the exponent of 2^k. */
  EACH shifted[u] = r[u] * -1.44269504f + 12583039.0f;
  EACH r[u] = (shifted[u] - 12583039.0f) * 0.693147181f + r[u];
  EACH sum[u] = r[u] * (1.0f / 720) - 1.0f / 120;
  EACH sum[u] = sum[u] * r[u] + 1.0f / 24;
  EACH sum[u] = sum[u] * r[u] - 1.0f / 6;
  EACH sum[u] = sum[u] * r[u] + 0.5f;
  EACH sum[u] = sum[u] * r[u] - 1.0f;
  EACH sum[u] = sum[u] * r[u] + 1.0f;
  EACH sum[u] = sum[u] * (Floats)((Ints)shifted[u] << 23) + 1.0f;
  reciprocal(sum, out);
}

static inline float total(Floats value) {
  float sum[LANES];
  memcpy(sum, &value, sizeof sum);
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; lane++) sum[lane] += sum[lane + half];
  return sum[0];
}

static inline Floats first_value(const float *weight, int j, float x, float y, float z, float t) {
  Floats value = load(weight + IN * WIDTH + j) + x * load(weight + j);
  value += y * load(weight + WIDTH + j);
  value += z * load(weight + 2 * WIDTH + j);
  return value + t * load(weight + 3 * WIDTH + j);
}

static inline void transpose(const float *weight, float *out) {
  for (int j = 0; j < WIDTH; j++)
    for (int k = 0; k < OUT; k++) out[k * WIDTH + j] = weight[OUT * j + k];
}

/* Backward passes may leave rows out: row i of what they are given from outside, in, product and upstream of the last
   layer, is there row index[i], or row i without an index. */
static inline int64_t place(const int64_t *index, int64_t i) { return index ? index[i] : i; }

/* out (rows, WIDTH) = SiLU of the first layer's values. */
void first_forward(int64_t rows, const float *restrict in, const float *restrict given, float *restrict out) {
  float weight[(IN + 1) * WIDTH];
  memcpy(weight, given, sizeof weight);
  for (int64_t i = 0; i < rows; i++, in += IN, out += WIDTH) TILES(j) {
    Floats value[TILE], s[TILE];
    EACH value[u] = first_value(weight, j + u * LANES, in[0], in[1], in[2], in[3]);
    sigmoid(value, s);
    EACH store(out + j + u * LANES, value[u] * s[u]);
  }
}

/* The same, and the slope of SiLU at these values, (rows, WIDTH). */
void first_again(int64_t rows, const int64_t *restrict index, const float *restrict in, const float *restrict given,
                 float *restrict out, float *restrict slope) {
  float weight[(IN + 1) * WIDTH];
  memcpy(weight, given, sizeof weight);
  for (int64_t i = 0; i < rows; i++, out += WIDTH, slope += WIDTH) {
    const float *from = in + place(index, i) * IN;
    TILES(j) {
      Floats value[TILE], s[TILE];
      EACH value[u] = first_value(weight, j + u * LANES, from[0], from[1], from[2], from[3]);
      sigmoid(value, s);
      EACH value[u] *= s[u];
      EACH store(out + j + u * LANES, value[u]);
      EACH store(slope + j + u * LANES, s[u] + value[u] - value[u] * s[u]);
    }
  }
}

/* Gradient of the first layer, weight and bias, from that of its SiLU's output, (rows, WIDTH). */
void first_backward(int64_t rows, const int64_t *restrict index, const float *restrict in,
                    const float *restrict upstream, const float *restrict slope, float *restrict gradient) {
  float sums[(IN + 1) * WIDTH] = {0};
  for (int64_t i = 0; i < rows; i++, upstream += WIDTH, slope += WIDTH) {
    const float *from = in + place(index, i) * IN;
    EACH_VECTOR(j) {
      Floats g = load(upstream + j) * load(slope + j);
      for (int k = 0; k < IN; k++) add(sums + k * WIDTH + j, from[k] * g);
      add(sums + IN * WIDTH + j, g);
    }
  }
  memcpy(gradient, sums, sizeof sums);
}

/* out (rows, 3) = last layer of SiLU(product + shift), product (rows, WIDTH), shift (WIDTH). */
void last_forward(int64_t rows, const float *restrict product, const float *restrict shift,
                  const float *restrict given, float *restrict out) {
  float weight[OUT * WIDTH], shifts[WIDTH];
  const float *bias = given + OUT * WIDTH;
  transpose(given, weight);
  memcpy(shifts, shift, sizeof shifts);
  for (int64_t i = 0; i < rows; i++, product += WIDTH, out += OUT) {
    Floats sums[OUT] = {0};
    TILES(j) {
      Floats value[TILE], s[TILE];
      EACH value[u] = load(product + j + u * LANES) + load(shifts + j + u * LANES);
      sigmoid(value, s);
      EACH value[u] *= s[u];
      for (int k = 0; k < OUT; k++) EACH sums[k] += value[u] * load(weight + k * WIDTH + j + u * LANES);
    }
    for (int k = 0; k < OUT; k++) out[k] = total(sums[k]) + bias[k];
  }
}

/* From the gradient of the output, (rows, 3): that of the last layer, weight and bias, of product, (rows, WIDTH), and
   of shift, (WIDTH). */
void last_backward(int64_t rows, const int64_t *restrict index, const float *restrict product,
                   const float *restrict shift, const float *restrict given, const float *restrict upstream,
                   float *restrict downstream, float *restrict gradient, float *restrict shift_gradient) {
  float weight[OUT * WIDTH], shifts[WIDTH], sums[OUT * WIDTH] = {0}, shift_sums[WIDTH] = {0}, out_bias[OUT] = {0};
  transpose(given, weight);
  memcpy(shifts, shift, sizeof shifts);
  for (int64_t i = 0; i < rows; i++, downstream += WIDTH) {
    const float *row = product + place(index, i) * WIDTH, *up = upstream + place(index, i) * OUT;
    /* What follows comes from a far cache, which the processor does not foresee beyond a page. */
    const float *next = product + place(index, i + AHEAD < rows ? i + AHEAD : rows - 1) * WIDTH;
    EACH_VECTOR(j) __builtin_prefetch(next + j);
    for (int k = 0; k < OUT; k++) out_bias[k] += up[k];
    TILES(j) {
      Floats value[TILE], s[TILE], g[TILE];
      EACH value[u] = load(row + j + u * LANES) + load(shifts + j + u * LANES);
      sigmoid(value, s);
      EACH value[u] *= s[u];
      for (int k = 0; k < OUT; k++) EACH add(sums + k * WIDTH + j + u * LANES, up[k] * value[u]);
      EACH g[u] = up[0] * load(weight + j + u * LANES);
      for (int k = 1; k < OUT; k++) EACH g[u] += up[k] * load(weight + k * WIDTH + j + u * LANES);
      EACH g[u] *= s[u] + value[u] - value[u] * s[u];
      EACH store(downstream + j + u * LANES, g[u]);
      EACH add(shift_sums + j + u * LANES, g[u]);
    }
  }
  for (int j = 0; j < WIDTH; j++)
    for (int k = 0; k < OUT; k++) gradient[OUT * j + k] = sums[k * WIDTH + j];
  memcpy(gradient + OUT * WIDTH, out_bias, sizeof out_bias);
  memcpy(shift_gradient, shift_sums, sizeof shift_sums);
}
