/* The complex functions of the C runtime. Wine 8 exports them from ucrtbase.dll as stubs that end the program.

   The functions are named own_NAME here, because NAME belongs to the compiler's library, which does the work. The tool
   that builds the DLL exports them as NAME, and those without an f at the end as NAMEl too: `long double` is `double`
   on Windows.

   The C runtime's complex numbers are plain structs: two floats are passed in a register, two doubles by reference. */
#include <complex.h>

#ifndef CMPLX
#define CMPLX(re, im) __builtin_complex((double)(re), (double)(im))
#define CMPLXF(re, im) __builtin_complex((float)(re), (float)(im))
#endif

typedef struct { double re, im; } Double;
typedef struct { float re, im; } Float;

static double complex from_double(Double z) { return CMPLX(z.re, z.im); }
static float complex from_float(Float z) { return CMPLXF(z.re, z.im); }

static Double to_double(double complex z)
{
    Double result = { creal(z), cimag(z) };
    return result;
}

static Float to_float(float complex z)
{
    Float result = { crealf(z), cimagf(z) };
    return result;
}

#define REAL(name) \
    double own_##name(Double z) { return name(from_double(z)); } \
    float own_##name##f(Float z) { return name##f(from_float(z)); }
#define COMPLEX(name) \
    Double own_##name(Double z) { return to_double(name(from_double(z))); } \
    Float own_##name##f(Float z) { return to_float(name##f(from_float(z))); }

REAL(cabs) REAL(carg) REAL(creal) REAL(cimag)
COMPLEX(cacos) COMPLEX(cacosh) COMPLEX(casin) COMPLEX(casinh) COMPLEX(catan) COMPLEX(catanh)
COMPLEX(ccos) COMPLEX(ccosh) COMPLEX(csin) COMPLEX(csinh) COMPLEX(ctan) COMPLEX(ctanh)
COMPLEX(cexp) COMPLEX(clog) COMPLEX(csqrt) COMPLEX(conj) COMPLEX(cproj)

Double own_cpow(Double base, Double exponent) { return to_double(cpow(from_double(base), from_double(exponent))); }
Float own_cpowf(Float base, Float exponent) { return to_float(cpowf(from_float(base), from_float(exponent))); }
