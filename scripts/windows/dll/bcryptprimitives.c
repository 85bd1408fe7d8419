/* bcryptprimitives.dll for Wine 8, which does not have it. Windows has one documented function in it, ProcessPrng:
   random bytes, never an error. Rust's standard library takes its random numbers from there. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG size); /* RtlGenRandom in advapi32.dll: the same bytes */

BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
    const SIZE_T largest = 0x10000000; /* SystemFunction036 takes a 32-bit size */
    while (size > 0) {
        ULONG part = (ULONG)(size > largest ? largest : size);
        if (!SystemFunction036(data, part))
            return FALSE;
        data += part;
        size -= part;
    }
    return TRUE;
}
