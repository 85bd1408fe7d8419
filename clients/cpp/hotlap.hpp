// hotlap.hpp: a game client of Hotlap in one header.
//
// It loads the models that the daemon publishes, acts with them, and writes rollouts for the daemon. C++17 and its
// standard library are all it needs; it uses no exceptions and no RTTI. README.md beside this file shows how to use it.
// The formats are described in docs/reference/formats.md; `hotlap docs formats` prints that page.
//
// One client belongs to one thread. `observe`, `act`, `action` and `result` allocate nothing, except when `act` writes
// a rollout or loads a model.

#ifndef HOTLAP_HPP
#define HOTLAP_HPP

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <clocale>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#include <share.h>
#include <sys/stat.h>
#else
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

// Both are for tests: they select the code for compilers that lack these features.
#if defined(__cpp_lib_to_chars) && !defined(HOTLAP_NO_FLOAT_CHARS)
#define HOTLAP_FLOAT_CHARS 1
#else
#define HOTLAP_FLOAT_CHARS 0
#endif
#if defined(__GNUC__) && !defined(HOTLAP_PLAIN_LOOPS)
#define HOTLAP_VECTORS 1
#else
#define HOTLAP_VECTORS 0
#endif

namespace hotlap {

// --- settings and results ----------------------------------------------------------------------------------------

/// One action that is a number. The bounds belong to the game: actions are clamped to them.
struct Action {
    std::string name;
    float low = -1.0f;
    float high = 1.0f;
};

enum class Format {
    columns,     ///< rollout version 2, base64 columns
    experiences  ///< rollout version 1
};

/// How a step ended its episode. `terminated`: by the game's own rules. `truncated`: by a limit, such as a time limit.
enum class End { none, terminated, truncated };

enum class DaemonState { unknown, idle, training, selecting, publishing, paused, parked };

struct Options {
    std::string project = ".";          ///< UTF-8; the folder that contains, or will contain, Saved/
    std::string client = "game";        ///< name of this game client; give each running game its own
    std::string engine = "C++";         ///< shown to users beside the name
    int observation_size = 0;           ///< numbers that an agent observes
    std::vector<Action> actions;        ///< actions that are numbers, in the order of `[agent]` in daemon.toml; or
    int choices = 0;                    ///< the number of choices, if an action is one of several
    int agents = 1;                     ///< the largest number of agents at the same time
    int steps_per_rollout = 2048;       ///< of all agents together
    float noise_std = 1.0f;             ///< factor on the policy's standard deviation
    std::uint64_t seed = 0;             ///< of the sampling; 0: a different one in each run
    Format format = Format::columns;
    int pause_after_rollouts = 0;       ///< after every N rollouts, wait for the next model; 0: keep playing
    double poll_s = 0.25;               ///< seconds between two looks at the pointer file
    bool sync_to_disk = true;           ///< flush a rollout to the disk before it is renamed
    bool write_receipts = true;
    std::function<void(const char*)> log;  ///< receives one line; without it, lines go to stderr
};

constexpr float kNoiseStdMin = 0.01f;
constexpr double kProbeTolerance = 1e-4;  // of the size of the outputs
constexpr double kLogSqrt2Pi = 0.91893853320467274178;

// --- details -----------------------------------------------------------------------------------------------------

namespace detail {

namespace fs = std::filesystem;

constexpr std::size_t kMaxModelBytes = std::size_t(512) << 20;
constexpr std::size_t kMaxStatusBytes = std::size_t(4) << 20;
constexpr int kMaxObservations = 1 << 17;
constexpr int kMaxOutputs = 1 << 16;
constexpr int kMaxLayers = 64;
constexpr int kMaxDepth = 64;

inline double now_s() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

inline double utc_s() {
    using namespace std::chrono;
    return duration<double>(system_clock::now().time_since_epoch()).count();
}

// -- paths and files

/// Return the path of a UTF-8 text.
inline fs::path path_of(const std::string& utf8) {
#if defined(__cpp_char8_t)
    return fs::path(std::u8string(utf8.begin(), utf8.end()));
#else
    return fs::u8path(utf8);
#endif
}

/// Return a path as UTF-8 with forward slashes, for messages.
inline std::string text_of(const fs::path& path) {
#if defined(__cpp_char8_t)
    const std::u8string text = path.generic_u8string();
    return std::string(text.begin(), text.end());
#else
    return path.generic_u8string();
#endif
}

/// Return a path that the system accepts: on Windows, one with the prefix that long paths need.
inline fs::path for_system(const fs::path& path) {
#if defined(_WIN32)
    if (path.native().size() < 240 || !path.is_absolute()) return path;
    fs::path preferred = path.lexically_normal();
    preferred.make_preferred();
    const std::wstring& text = preferred.native();
    if (text.rfind(L"\\\\?\\", 0) == 0) return preferred;
    if (text.rfind(L"\\\\", 0) == 0) return fs::path(L"\\\\?\\UNC\\" + text.substr(2));
    return fs::path(L"\\\\?\\" + text);
#else
    return path;
#endif
}

/// A file descriptor that is closed at the end of its scope.
class File {
public:
    File() = default;
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() { close(); }

    /// Open an existing file for reading; return whether it was opened. Other programs may write and rename it.
    bool open_to_read(const fs::path& path) {
        close();
#if defined(_WIN32)
        if (_wsopen_s(&fd_, path.c_str(), _O_RDONLY | _O_BINARY, _SH_DENYNO, _S_IREAD) != 0) fd_ = -1;
#else
        fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
#endif
        return fd_ >= 0;
    }

    /// Create a file that does not exist yet; return whether it was created.
    bool create(const fs::path& path) {
        close();
#if defined(_WIN32)
        const int flags = _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY;
        if (_wsopen_s(&fd_, path.c_str(), flags, _SH_DENYNO, _S_IREAD | _S_IWRITE) != 0) fd_ = -1;
#else
        fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
#endif
        return fd_ >= 0;
    }

    /// Return how many bytes were read, 0 at the end, -1 after an error.
    long read(char* to, std::size_t size) {
#if defined(_WIN32)
        return _read(fd_, to, static_cast<unsigned>((std::min)(size, std::size_t(1) << 24)));
#else
        ssize_t count;
        do count = ::read(fd_, to, (std::min)(size, std::size_t(1) << 24));
        while (count < 0 && errno == EINTR);
        return static_cast<long>(count);
#endif
    }

    bool write(const char* from, std::size_t size) {
        while (size > 0) {
            const std::size_t part = (std::min)(size, std::size_t(1) << 24);
#if defined(_WIN32)
            const long count = _write(fd_, from, static_cast<unsigned>(part));
#else
            const long count = static_cast<long>(::write(fd_, from, part));
            if (count < 0 && errno == EINTR) continue;
#endif
            if (count <= 0) return false;
            from += count;
            size -= static_cast<std::size_t>(count);
        }
        return true;
    }

    bool sync() {
#if defined(_WIN32)
        return _commit(fd_) == 0;
#else
        return ::fsync(fd_) == 0;
#endif
    }

    bool close() {
        if (fd_ < 0) return true;
#if defined(_WIN32)
        const bool is_closed = _close(fd_) == 0;
#else
        const bool is_closed = ::close(fd_) == 0;
#endif
        fd_ = -1;
        return is_closed;
    }

private:
    int fd_ = -1;
};

/// Read a file of at most `limit` bytes into `data`; return whether all of it was read. Reuses the capacity of `data`.
inline bool read_file(const fs::path& path, std::size_t limit, std::string& data) {
    data.clear();
    std::error_code error;
    const std::uintmax_t size = fs::file_size(path, error);  // fails for folders and devices
    if (error || size > limit) return false;
    File file;
    if (!file.open_to_read(path)) return false;
    data.resize(static_cast<std::size_t>(size) + 1);
    std::size_t done = 0;
    while (done < data.size()) {
        const long count = file.read(&data[done], data.size() - done);
        if (count < 0) return false;
        if (count == 0) break;
        done += static_cast<std::size_t>(count);
    }
    data.resize(done);
    return true;
}

/// Make the names in a folder safe against a power cut. Windows does not have this call.
inline void sync_folder(const fs::path& folder) {
#if defined(_WIN32)
    (void)folder;
#else
    const int fd = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    (void)::fsync(fd);
    (void)::close(fd);
#endif
}

/// Rename a file to a name that may exist. Windows refuses it while another program has that file open.
inline bool rename_file(const fs::path& from, const fs::path& to) {
    std::error_code error;
    for (int tries = 0; tries < 10; ++tries) {
        fs::rename(from, to, error);
        if (!error) return true;
#if !defined(_WIN32)
        break;
#else
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
#endif
    }
    return false;
}

/// Write a file of which readers see the old bytes or the new ones. `temporary` must not match a reader's pattern.
inline bool write_whole(
    const fs::path& temporary, const fs::path& path, const std::string& data, bool should_sync, std::string& why) {
    File file;
    if (!file.create(temporary)) {
        why = "cannot create " + text_of(temporary);
        return false;
    }
    bool is_written = file.write(data.data(), data.size());
    if (should_sync) is_written = file.sync() && is_written;
    is_written = file.close() && is_written;
    if (is_written && rename_file(temporary, path)) {
        if (should_sync) sync_folder(path.parent_path());
        return true;
    }
    why = (is_written ? "cannot rename " : "cannot write ") + text_of(temporary) + "; is the disk full?";
    std::error_code ignored;
    fs::remove(temporary, ignored);
    return false;
}

// -- numbers and text

/// Return the number at `p`, which `end` bounds, and set `after`. The characters must be those of a JSON number.
inline double parse_double(const char* p, const char* end, bool& is_number) {
#if HOTLAP_FLOAT_CHARS
    double value = 0.0;
    const auto parsed = std::from_chars(p, end, value);
    if (parsed.ec == std::errc::result_out_of_range) {  // too small is zero, too large is infinite
        const char* e = std::find_if(p, end, [](char c) { return c == 'e' || c == 'E'; });
        const bool is_small = e == end ? true : e + 1 < end && e[1] == '-';
        is_number = is_small;
        return 0.0;
    }
    is_number = parsed.ec == std::errc() && parsed.ptr == end;
    return value;
#else
    // strtod expects the decimal point of the locale.
    char buffer[512];
    const std::size_t size = static_cast<std::size_t>(end - p);
    if (size >= sizeof buffer) {
        is_number = false;
        return 0.0;
    }
    std::memcpy(buffer, p, size);
    buffer[size] = '\0';
    const char point = *std::localeconv()->decimal_point;
    for (std::size_t i = 0; i < size; ++i)
        if (buffer[i] == '.') buffer[i] = point;
    char* stopped = nullptr;
    const double value = std::strtod(buffer, &stopped);
    is_number = stopped == buffer + size && std::isfinite(value);
    return value;
#endif
}

/// Append a number with the digits that are needed to read the same number; null if it is not finite.
template <class Number>
void append_number(std::string& out, Number value) {
    if (!std::isfinite(value)) {
        out += "null";
        return;
    }
    char buffer[64];
#if HOTLAP_FLOAT_CHARS
    const auto written = std::to_chars(buffer, buffer + sizeof buffer, value);
    out.append(buffer, written.ptr);
#else
    const int digits = sizeof(Number) == sizeof(float) ? 9 : 17;
    const int size = std::snprintf(buffer, sizeof buffer, "%.*g", digits, static_cast<double>(value));
    const char point = *std::localeconv()->decimal_point;
    for (int i = 0; i < size; ++i) out += buffer[i] == point ? '.' : buffer[i];
#endif
}

inline void append_int(std::string& out, long long value) {
    char buffer[32];
    const auto written = std::to_chars(buffer, buffer + sizeof buffer, value);
    out.append(buffer, written.ptr);
}

inline void append_string(std::string& out, const std::string& text) {
    static const char digits[] = "0123456789abcdef";
    out += '"';
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            out += "\\u00";
            out += digits[(c >> 4) & 1];
            out += digits[c & 15];
        } else {
            out += c;
        }
    }
    out += '"';
}

inline void append_base64(std::string& out, const void* data, std::size_t size) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const auto* bytes = static_cast<const unsigned char*>(data);
    std::size_t at = out.size();
    out.resize(at + (size + 2) / 3 * 4);
    for (std::size_t i = 0; i < size; i += 3) {
        const std::size_t left = size - i;
        const std::uint32_t group = std::uint32_t(bytes[i]) << 16 | (left > 1 ? std::uint32_t(bytes[i + 1]) << 8 : 0u)
                                    | (left > 2 ? std::uint32_t(bytes[i + 2]) : 0u);
        out[at++] = letters[group >> 18];
        out[at++] = letters[group >> 12 & 63];
        out[at++] = left > 1 ? letters[group >> 6 & 63] : '=';
        out[at++] = left > 2 ? letters[group & 63] : '=';
    }
}

/// Return a text in which only characters are left that are safe in file names on every system.
inline std::string safe_name(const std::string& text) {
    std::string name;
    for (const char c : text.substr(0, 40)) {
        const bool is_safe = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-';
        name += is_safe ? c : '_';
    }
    return name.empty() ? "game" : name;
}

// -- SHA-256 (FIPS 180-4)

class Sha256 {
public:
    void add(const void* data, std::size_t size) {
        const auto* bytes = static_cast<const unsigned char*>(data);
        length_ += size;
        while (size > 0) {
            const std::size_t part = (std::min)(size, sizeof block_ - used_);
            std::memcpy(block_ + used_, bytes, part);
            used_ += part;
            bytes += part;
            size -= part;
            if (used_ == sizeof block_) compress();
        }
    }

    std::string hex() {
        const std::uint64_t bits = length_ * 8;
        const unsigned char one = 0x80, zero = 0;
        add(&one, 1);
        while (used_ != 56) add(&zero, 1);
        unsigned char tail[8];
        for (int i = 0; i < 8; ++i) tail[i] = static_cast<unsigned char>(bits >> (56 - 8 * i));
        add(tail, sizeof tail);
        static const char digits[] = "0123456789abcdef";
        std::string text;
        for (const std::uint32_t word : state_)
            for (int shift = 28; shift >= 0; shift -= 4) text += digits[word >> shift & 15];
        return text;
    }

private:
    static std::uint32_t rotate(std::uint32_t x, int n) { return x >> n | x << (32 - n); }

    void compress() {
        static const std::uint32_t k[64] = {
            0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
            0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
            0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
            0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
            0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
            0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
            0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
            0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
        std::uint32_t w[64];
        for (int i = 0; i < 16; ++i) {
            const unsigned char* b = block_ + 4 * i;
            w[i] = std::uint32_t(b[0]) << 24 | std::uint32_t(b[1]) << 16 | std::uint32_t(b[2]) << 8 | b[3];
        }
        for (int i = 16; i < 64; ++i) {
            const std::uint32_t x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w[i - 7]
                   + (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
        }
        std::uint32_t s[8];
        std::memcpy(s, state_, sizeof s);
        for (int i = 0; i < 64; ++i) {
            const std::uint32_t one = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
            const std::uint32_t t1 = s[7] + one + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
            const std::uint32_t zero = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
            const std::uint32_t t2 = zero + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            for (int j = 7; j > 0; --j) s[j] = s[j - 1];
            s[4] += t1;
            s[0] = t1 + t2;
        }
        for (int i = 0; i < 8; ++i) state_[i] += s[i];
        used_ = 0;
    }

    std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    unsigned char block_[64] = {};
    std::size_t used_ = 0;
    std::uint64_t length_ = 0;
};

// -- random numbers: xoshiro256++ (Blackman & Vigna 2018), so that a seed gives the same game with every compiler

class Random {
public:
    explicit Random(std::uint64_t seed) {
        for (std::uint64_t& word : state_) {  // splitmix64
            seed += 0x9e3779b97f4a7c15u;
            std::uint64_t z = seed;
            z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
            z = (z ^ z >> 27) * 0x94d049bb133111ebu;
            word = z ^ z >> 31;
        }
    }

    /// Return a number in [0, 1).
    double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

    /// Return a number from the standard normal distribution (Box & Muller 1958).
    double normal() {
        if (has_spare_) {
            has_spare_ = false;
            return spare_;
        }
        const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
        const double angle = 6.28318530717958647693 * uniform();
        spare_ = radius * std::sin(angle);
        has_spare_ = true;
        return radius * std::cos(angle);
    }

private:
    std::uint64_t next() {
        const auto rotate = [](std::uint64_t x, int n) { return x << n | x >> (64 - n); };
        const std::uint64_t result = rotate(state_[0] + state_[3], 23) + state_[0];
        const std::uint64_t t = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= t;
        state_[3] = rotate(state_[3], 45);
        return result;
    }

    std::uint64_t state_[4];
    double spare_ = 0.0;
    bool has_spare_ = false;
};

// -- reading JSON: one pass over the text, which reads what is wanted and skips the rest

class Json {
public:
    Json(const char* data, std::size_t size) : p_(data), end_(data + size) {
        if (size >= 3 && std::memcmp(data, "\xef\xbb\xbf", 3) == 0) p_ += 3;
    }

    bool failed() const { return problem_ != nullptr; }
    const char* problem() const { return problem_ ? problem_ : ""; }

    /// Note a problem, the first of which is kept, and return false.
    bool fail(const char* problem) {
        if (!problem_) problem_ = problem;
        return false;
    }

    /// Read an object: `field(key)` reads the value of a key, and returns false if it is wrong.
    template <class Field>
    bool object(Field&& field) {
        if (!enter('{')) return fail("an object is expected");
        if (accept('}')) return leave();
        do {
            char name[64];  // a longer key is cut: no known key is as long
            std::size_t size = 0;
            if (!text_to([&](char c) { if (size < sizeof name) name[size++] = c; })) return false;
            if (!accept(':')) return fail("a colon is missing");
            if (!field(std::string_view(name, size)) || failed()) return fail("a value is wrong");
        } while (accept(','));
        return accept('}') ? leave() : fail("an object does not end");
    }

    /// Read a list: `element()` reads one of its values.
    template <class Element>
    bool list(Element&& element) {
        if (!enter('[')) return fail("a list is expected");
        if (accept(']')) return leave();
        do {
            if (!element() || failed()) return fail("a value is wrong");
        } while (accept(','));
        return accept(']') ? leave() : fail("a list does not end");
    }

    bool number(double& value) {
        space();
        const char* from = p_;
        while (p_ < end_ && ((*p_ >= '0' && *p_ <= '9') || (*p_ != '\0' && std::strchr("+-.eE", *p_)))) ++p_;
        bool is_number = p_ > from && (*from == '-' || (*from >= '0' && *from <= '9'));
        if (is_number) value = parse_double(from, p_, is_number);
        return is_number ? true : fail("a number is expected");
    }

    bool whole_number(long long low, long long high, long long& value) {
        double wide = 0.0;
        if (!number(wide)) return false;
        if (!(wide >= static_cast<double>(low) && wide <= static_cast<double>(high)) || wide != std::floor(wide))
            return fail("a whole number is out of its range");
        value = static_cast<long long>(wide);
        return true;
    }

    bool floats(std::vector<float>& values) {
        values.clear();
        return list([&] {
            double value = 0.0;
            if (!number(value)) return false;
            values.push_back(static_cast<float>(value));
            return std::isfinite(values.back()) ? true : fail("a number is not finite");
        });
    }

    bool string(std::string& text) {
        text.clear();
        return text_to([&](char c) { text += c; });
    }

    bool is_null() {
        space();
        return p_ < end_ && *p_ == 'n' && word("null");
    }

    /// Read any value and forget it.
    bool skip() {
        space();
        if (p_ == end_) return fail("the file is not complete");
        double value = 0.0;
        switch (*p_) {
            case '{': return object([&](std::string_view) { return skip(); });
            case '[': return list([&] { return skip(); });
            case '"': return text_to([](char) {});
            case 't': return word("true");
            case 'f': return word("false");
            case 'n': return word("null");
            default: return number(value);
        }
    }

    /// Return whether nothing follows.
    bool at_end() {
        space();
        return p_ == end_ ? true : fail("something follows the end");
    }

private:
    void space() {
        while (p_ < end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
    }

    bool accept(char c) {
        space();
        if (failed() || p_ == end_ || *p_ != c) return false;
        ++p_;
        return true;
    }

    bool enter(char c) {
        if (!accept(c)) return false;
        return ++depth_ <= kMaxDepth ? true : fail("it is nested too deeply");
    }

    bool leave() {
        --depth_;
        return true;
    }

    bool word(const char* expected) {
        const std::size_t size = std::strlen(expected);
        if (static_cast<std::size_t>(end_ - p_) < size || std::memcmp(p_, expected, size) != 0)
            return fail("a value is wrong");
        p_ += size;
        return true;
    }

    /// Read a text and pass its bytes, in UTF-8, to `put`.
    template <class Put>
    bool text_to(Put&& put) {
        space();
        if (p_ == end_ || *p_ != '"') return fail("a text is expected");
        for (++p_; p_ < end_ && *p_ != '"'; ++p_) {
            if (static_cast<unsigned char>(*p_) < 0x20) return fail("a text contains a control character");
            if (*p_ != '\\') {
                put(*p_);
            } else if (!escape(put)) {
                return fail("a text has a wrong escape");
            }
        }
        if (p_ == end_) return fail("a text does not end");
        ++p_;
        return true;
    }

    bool hex4(std::uint32_t& code) {
        if (end_ - p_ < 5) return false;
        const auto parsed = std::from_chars(p_ + 1, p_ + 5, code, 16);
        if (parsed.ptr != p_ + 5 || p_[1] == '-') return false;
        p_ += 4;
        return true;
    }

    template <class Put>
    bool escape(Put&& put) {
        if (++p_ == end_) return false;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        if (*p_ != 'u') {
            const char* found = *p_ == '\0' ? nullptr : std::strchr(from, *p_);
            if (!found) return false;
            put(to[found - from]);
            return true;
        }
        std::uint32_t code = 0, low = 0;
        if (!hex4(code)) return false;
        if (code >= 0xd800 && code < 0xdc00) {
            if (end_ - p_ < 3 || p_[1] != '\\' || p_[2] != 'u') return false;
            p_ += 2;
            if (!hex4(low) || low < 0xdc00 || low > 0xdfff) return false;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        } else if (code >= 0xdc00 && code < 0xe000) {
            return false;
        }
        const auto byte = [&](std::uint32_t bits) { put(static_cast<char>(bits)); };
        if (code < 0x80) {
            byte(code);
        } else if (code < 0x800) {
            byte(0xc0 | code >> 6);
        } else if (code < 0x10000) {
            byte(0xe0 | code >> 12);
            byte(0x80 | (code >> 6 & 63));
        } else {
            byte(0xf0 | code >> 18);
            byte(0x80 | (code >> 12 & 63));
            byte(0x80 | (code >> 6 & 63));
        }
        if (code >= 0x80) byte(0x80 | (code & 63));
        return true;
    }

    const char* p_;
    const char* end_;
    const char* problem_ = nullptr;
    int depth_ = 0;
};

// -- networks

// A tile is 4 outputs of kLanes agents. Its sums fit the registers that every CPU of the kind has.
#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif
constexpr int kLanes = 2 * kWidth;
constexpr int kTile = 4;

/// One dense layer. The weights are stored as the loop reads them: for each 4 outputs, [in][4].
struct Dense {
    int inputs = 0;
    int outputs = 0;
    std::vector<float> weights;
    std::vector<float> biases;

    int tiles() const { return (outputs + kTile - 1) / kTile; }

    void set(const std::vector<float>& row_major, const std::vector<float>& offsets) {
        const std::size_t in = static_cast<std::size_t>(inputs), tile = static_cast<std::size_t>(kTile);
        const std::size_t count = static_cast<std::size_t>(tiles());
        weights.assign(count * in * tile, 0.0f);
        biases.assign(count * tile, 0.0f);
        for (std::size_t o = 0; o < static_cast<std::size_t>(outputs); ++o) {
            biases[o] = offsets[o];
            for (std::size_t i = 0; i < in; ++i)
                weights[(o / tile * in + i) * tile + o % tile] = row_major[o * in + i];
        }
    }

    /// Compute y = W x + b for kLanes agents; x is [inputs][kLanes], y is [tiles * 4][kLanes].
    void forward(const float* x, float* y, bool has_relu) const {
        const float* w = weights.data();
        for (int tile = 0; tile < tiles(); ++tile, y += kTile * kLanes) {
            w = multiply(x, w, biases.data() + tile * kTile, y);
            if (!has_relu) continue;
            for (int i = 0; i < kTile * kLanes; ++i) y[i] = y[i] > 0.0f ? y[i] : 0.0f;
        }
    }

private:
#if HOTLAP_VECTORS
    typedef float Vector __attribute__((vector_size(kWidth * sizeof(float))));

    const float* multiply(const float* x, const float* w, const float* b, float* y) const {
        const Vector zero = {};
        Vector a0 = zero + b[0], a1 = a0, b0 = zero + b[1], b1 = b0;
        Vector c0 = zero + b[2], c1 = c0, d0 = zero + b[3], d1 = d0;
        for (int i = 0; i < inputs; ++i, x += kLanes, w += kTile) {
            Vector x0, x1;
            std::memcpy(&x0, x, sizeof x0);
            std::memcpy(&x1, x + kWidth, sizeof x1);
            a0 += x0 * w[0];
            a1 += x1 * w[0];
            b0 += x0 * w[1];
            b1 += x1 * w[1];
            c0 += x0 * w[2];
            c1 += x1 * w[2];
            d0 += x0 * w[3];
            d1 += x1 * w[3];
        }
        const Vector sums[2 * kTile] = {a0, a1, b0, b1, c0, c1, d0, d1};
        std::memcpy(y, sums, sizeof sums);
        return w;
    }
#else
    const float* multiply(const float* x, const float* w, const float* b, float* y) const {
        float sums[kTile][kLanes];
        for (int o = 0; o < kTile; ++o)
            for (int j = 0; j < kLanes; ++j) sums[o][j] = b[o];
        for (int i = 0; i < inputs; ++i, x += kLanes, w += kTile)
            for (int o = 0; o < kTile; ++o)
                for (int j = 0; j < kLanes; ++j) sums[o][j] += w[o] * x[j];
        std::memcpy(y, sums, sizeof sums);
        return w;
    }
#endif
};

/// Hidden layers with ReLU, and a head without.
struct Stack {
    std::vector<Dense> layers;

    /// Return the outputs [outputs][kLanes]. `x` holds the inputs; `x` and `y` are as large as the widest layer.
    const float* forward(float* x, float* y) const {
        for (std::size_t i = 0; i < layers.size(); ++i) {
            layers[i].forward(x, y, i + 1 < layers.size());
            std::swap(x, y);
        }
        return x;
    }
};

}  // namespace detail

// --- models ------------------------------------------------------------------------------------------------------

/// A policy and a value network, as a model JSON describes them. Normalisation is folded into the weights.
class Model {
public:
    int observation_size() const { return sizes_.empty() ? 0 : sizes_.front(); }
    int output_size() const { return outputs_; }
    bool is_discrete() const { return is_discrete_; }
    const std::vector<int>& sizes() const { return sizes_; }  ///< observations, then the hidden layers
    const std::vector<float>& action_log_std() const { return log_std_; }
    const std::vector<std::string>& action_names() const { return names_; }  ///< empty if the file names none
    long long policy_version() const { return version_; }                    ///< -1 if the file does not have it
    const std::string& checksum() const { return checksum_; }                ///< SHA-256 of the weights
    double probe_error() const { return probe_error_; }  ///< largest difference, relative to the outputs; -1: no probe

    /// Read a model JSON; return whether it can be run. `why` is set if not.
    bool read(const char* data, std::size_t size, std::string& why) {
        detail::Json json(data, size);
        Content content;
        if (!content.read(json) || !json.at_end()) {
            why = std::string("it is not a model JSON: ") + json.problem();
            return false;
        }
        return build(content, why) && check_probe(content, why);
    }

    /// Compute n agents: `means` [n][outputs] (of a discrete policy the logits) and `values` [n]. Allocates nothing.
    void evaluate(const float* observations, int n, float* means, float* values) {
        const int in = observation_size();
        for (int first = 0; first < n; first += detail::kLanes) {
            const int count = (std::min)(detail::kLanes, n - first);
            const float* from = observations + static_cast<std::size_t>(first) * static_cast<std::size_t>(in);
            load_lanes(from, count);
            const float* y = policy_.forward(x_.data(), y_.data());
            for (int j = 0; j < count; ++j) {
                float* mean = means + static_cast<std::size_t>(first + j) * static_cast<std::size_t>(outputs_);
                for (int o = 0; o < outputs_; ++o) {
                    const float raw = y[o * detail::kLanes + j];
                    mean[o] = is_discrete_ ? raw : std::tanh(raw);
                }
            }
            load_lanes(from, count);
            std::copy_n(value_.forward(x_.data(), y_.data()), count, values + first);
        }
    }

private:
    struct Layer {
        std::vector<float> weights, biases;

        bool read(detail::Json& json) {
            return json.object([&](std::string_view key) {
                if (key == "weights") return json.floats(weights);
                if (key == "biases") return json.floats(biases);
                return json.skip();
            });
        }
    };

    /// What is used of a model JSON.
    struct Content {
        long long inputs = 0, outputs = 0, value_outputs = 1, version = -1, choices = 0;
        std::vector<long long> hidden;
        std::vector<Layer> policy, value;
        Layer policy_head, value_head;
        std::vector<float> log_std, probe_observations, probe_means, probe_values;
        std::vector<std::string> names;
        std::string checksum, kind;

        bool read(detail::Json& json) {
            return json.object([&](std::string_view key) {
                if (key == "network_config") return read_config(json);
                if (key == "policy_layers") return read_layers(json, policy);
                if (key == "value_layers") return read_layers(json, value);
                if (key == "policy_head") return policy_head.read(json);
                if (key == "value_head") return value_head.read(json);
                if (json.is_null()) return true;
                if (key == "action_log_std") return json.floats(log_std);
                if (key == "policy_version") return json.whole_number(0, 1LL << 53, version);
                if (key == "checksum") return json.string(checksum);
                if (key == "action_space") return read_actions(json);
                if (key == "probe") return read_probe(json);
                return json.skip();
            });
        }

        bool read_config(detail::Json& json) {
            return json.object([&](std::string_view key) {
                if (key == "input_size") return json.whole_number(1, detail::kMaxObservations, inputs);
                if (key == "policy_output_size") return json.whole_number(1, detail::kMaxOutputs, outputs);
                if (key == "value_output_size") return json.whole_number(1, 1, value_outputs);
                if (key != "hidden_layers") return json.skip();
                hidden.clear();
                return json.list([&] {
                    hidden.push_back(0);
                    return json.whole_number(1, detail::kMaxOutputs, hidden.back());
                });
            });
        }

        bool read_layers(detail::Json& json, std::vector<Layer>& layers) {
            layers.clear();
            return json.list([&] {
                if (layers.size() == detail::kMaxLayers) return json.fail("it has too many layers");
                layers.emplace_back();
                return layers.back().read(json);
            });
        }

        bool read_actions(detail::Json& json) {
            return json.object([&](std::string_view key) {
                if (key == "type") return json.string(kind);
                if (key == "n") return json.whole_number(2, detail::kMaxOutputs, choices);
                if (key != "names") return json.skip();
                names.clear();
                return json.list([&] {
                    names.emplace_back();
                    return json.string(names.back());
                });
            });
        }

        bool read_probe(detail::Json& json) {
            return json.object([&](std::string_view key) {
                if (key == "observations") return read_rows(json, probe_observations);
                if (key == "means") return read_rows(json, probe_means);
                if (key == "values") return json.floats(probe_values);
                return json.skip();
            });
        }

        bool read_rows(detail::Json& json, std::vector<float>& all) {
            all.clear();
            std::vector<float> row;
            return json.list([&] {
                if (!json.floats(row)) return false;
                all.insert(all.end(), row.begin(), row.end());
                return true;
            });
        }
    };

    bool build(Content& content, std::string& why) {
        if (content.inputs == 0 || content.outputs == 0) {
            why = "it is not a model JSON: network_config is not complete";
            return false;
        }
        outputs_ = static_cast<int>(content.outputs);
        is_discrete_ = content.kind == "discrete" || (content.kind.empty() && content.choices > 0);
        if (!content.kind.empty() && content.kind != "discrete" && content.kind != "continuous") {
            why = "its kind of actions, " + content.kind + ", is unknown";
            return false;
        }
        if (!is_discrete_ && content.log_std.size() != static_cast<std::size_t>(outputs_)) {
            why = "action_log_std does not have one number for each action";
            return false;
        }
        sizes_.assign(1, static_cast<int>(content.inputs));
        for (const long long size : content.hidden) sizes_.push_back(static_cast<int>(size));
        content.policy.push_back(std::move(content.policy_head));
        content.value.push_back(std::move(content.value_head));
        detail::Sha256 sum;
        if (!build_stack(policy_, content.policy, outputs_, sum, why)) return false;
        if (!build_stack(value_, content.value, 1, sum, why)) return false;
        sum.add(content.log_std.data(), content.log_std.size() * sizeof(float));
        checksum_ = sum.hex();
        if (!content.checksum.empty() && content.checksum != checksum_) {
            why = "its weights do not match its checksum";
            return false;
        }
        version_ = content.version;
        log_std_ = std::move(content.log_std);
        names_ = std::move(content.names);
        int widest = outputs_;
        for (const int size : sizes_) widest = (std::max)(widest, size);
        const std::size_t lanes = static_cast<std::size_t>(widest + detail::kTile) * detail::kLanes;
        x_.assign(lanes, 0.0f);
        y_.assign(lanes, 0.0f);
        return true;
    }

    bool build_stack(
        detail::Stack& stack, const std::vector<Layer>& layers, int outputs, detail::Sha256& sum, std::string& why) {
        if (layers.size() != sizes_.size()) {
            why = "it has " + std::to_string(layers.size() - 1) + " hidden layers, but network_config names "
                  + std::to_string(sizes_.size() - 1);
            return false;
        }
        stack.layers.clear();
        for (std::size_t i = 0; i < layers.size(); ++i) {
            detail::Dense dense;
            dense.inputs = sizes_[i];
            dense.outputs = i + 1 < sizes_.size() ? sizes_[i + 1] : outputs;
            const std::size_t in = static_cast<std::size_t>(dense.inputs);
            const std::size_t out = static_cast<std::size_t>(dense.outputs);
            if (layers[i].weights.size() != in * out || layers[i].biases.size() != out) {
                why = "layer " + std::to_string(i) + " has " + std::to_string(layers[i].weights.size())
                      + " weights and " + std::to_string(layers[i].biases.size()) + " biases, not "
                      + std::to_string(in) + "x" + std::to_string(out) + " and " + std::to_string(out);
                return false;
            }
            sum.add(layers[i].weights.data(), layers[i].weights.size() * sizeof(float));  // little-endian machines only
            sum.add(layers[i].biases.data(), layers[i].biases.size() * sizeof(float));
            dense.set(layers[i].weights, layers[i].biases);
            stack.layers.push_back(std::move(dense));
        }
        return true;
    }

    /// Compute the probe's observations, and compare the results with those of the trainer.
    bool check_probe(const Content& content, std::string& why) {
        probe_error_ = -1.0;
        const std::size_t n = content.probe_values.size();
        if (n == 0 && content.probe_observations.empty()) return true;  // a model of another program
        const std::size_t in = static_cast<std::size_t>(observation_size()), out = static_cast<std::size_t>(outputs_);
        if (n > 4096 || content.probe_observations.size() != n * in || content.probe_means.size() != n * out) {
            why = "its probe has another shape than its network";
            return false;
        }
        std::vector<float> means(n * out), values(n);
        evaluate(content.probe_observations.data(), static_cast<int>(n), means.data(), values.data());
        probe_error_ = (std::max)(difference(means, content.probe_means), difference(values, content.probe_values));
        if (probe_error_ <= kProbeTolerance) return true;
        char text[96];
        std::snprintf(
            text, sizeof text, "it does not compute the outputs of its probe (difference %.1e)", probe_error_);
        why = text;
        return false;
    }

    static double difference(const std::vector<float>& computed, const std::vector<float>& expected) {
        double scale = 1e-3, worst = 0.0;
        for (const float value : expected) scale = (std::max)(scale, std::fabs(static_cast<double>(value)));
        for (std::size_t i = 0; i < computed.size(); ++i) {
            const double gap = std::fabs(static_cast<double>(computed[i]) - static_cast<double>(expected[i]));
            if (!(gap <= 1e30)) return 1e30;
            worst = (std::max)(worst, gap);
        }
        return worst / scale;
    }

    void load_lanes(const float* rows, int count) {
        const int in = observation_size();
        for (int i = 0; i < in; ++i) {
            float* lane = x_.data() + static_cast<std::size_t>(i) * detail::kLanes;
            for (int j = 0; j < detail::kLanes; ++j) lane[j] = j < count ? rows[j * in + i] : 0.0f;
        }
    }

    std::vector<int> sizes_;
    int outputs_ = 0;
    bool is_discrete_ = false;
    long long version_ = -1;
    double probe_error_ = -1.0;
    std::string checksum_;
    std::vector<float> log_std_;
    std::vector<std::string> names_;
    detail::Stack policy_, value_;
    std::vector<float> x_, y_;  // what the layers read and write
};

/// Return the log density, in nats, of a clamped action under the normal distribution that it was drawn from.
inline double log_density(const Model& model, float noise_std, const float* mean, const float* action) {
    double total = 0.0;
    for (std::size_t i = 0; i < model.action_log_std().size(); ++i) {
        const double deviation = std::exp(static_cast<double>(model.action_log_std()[i]))
                                 * static_cast<double>((std::max)(noise_std, kNoiseStdMin));
        const double z = (static_cast<double>(action[i]) - static_cast<double>(mean[i])) / deviation;
        total += -0.5 * z * z - std::log(deviation) - kLogSqrt2Pi;
    }
    return total;
}

/// Return the log probability of a choice.
inline double log_probability(const float* logits, int n, int choice) {
    double largest = static_cast<double>(logits[0]), sum = 0.0;
    for (int i = 1; i < n; ++i) largest = (std::max)(largest, static_cast<double>(logits[i]));
    for (int i = 0; i < n; ++i) sum += std::exp(static_cast<double>(logits[i]) - largest);
    return static_cast<double>(logits[choice]) - largest - std::log(sum);
}

/// Return a choice, drawn with the probabilities that the logits mean.
inline int draw_choice(const float* logits, int n, detail::Random& random) {
    double largest = static_cast<double>(logits[0]), sum = 0.0;
    for (int i = 1; i < n; ++i) largest = (std::max)(largest, static_cast<double>(logits[i]));
    for (int i = 0; i < n; ++i) sum += std::exp(static_cast<double>(logits[i]) - largest);
    double left = random.uniform() * sum;
    for (int i = 0; i < n - 1; ++i) {
        left -= std::exp(static_cast<double>(logits[i]) - largest);
        if (left < 0.0) return i;
    }
    return n - 1;
}

// --- the client --------------------------------------------------------------------------------------------------

/// One game client: `observe` and `act` in every step, then `result` for every agent that acted.
class Client {
public:
    explicit Client(Options options)
        : options_(std::move(options)), random_(options_.seed ? options_.seed : seed_of_this_run()) {
        options_.agents = (std::max)(1, options_.agents);
        options_.observation_size = (std::max)(1, options_.observation_size);
        options_.steps_per_rollout = (std::max)(1, options_.steps_per_rollout);
        outputs_ = options_.choices > 0 ? options_.choices : static_cast<int>(options_.actions.size());
        name_ = detail::safe_name(options_.client);
        std::error_code error;
        training_ = detail::fs::absolute(detail::path_of(options_.project), error) / "Saved" / "Training";
        pointer_ = detail::for_system(training_ / "Models" / "best_model_path.txt");
        status_ = detail::for_system(training_ / "status.json");
        exports_ = detail::for_system(training_ / "Exports");
        detail::fs::create_directories(exports_, error);
        if (error) say("cannot create " + detail::text_of(exports_) + ": " + error.message());
        reserve();
        next_index_ = first_free_index();
    }

    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    /// Set what an agent observes now. An agent that is not observed does not act in this step.
    void observe(int agent, const float* observation) {
        if (!is_agent(agent) || !observation) return;
        copy_observation(observation, observation_of(agent));
        is_observed_[static_cast<std::size_t>(agent)] = true;
    }

    /// Choose the actions of all observed agents; return whether they act. If not (there is no model yet, or the client
    /// waits for the next one), do not apply actions and do not call `result`.
    bool act() {
        if (rows() >= static_cast<std::size_t>(options_.steps_per_rollout)) write_rollout();
        update();
        if (!has_model_ || is_waiting_) {
            std::fill(is_observed_.begin(), is_observed_.end(), false);
            return false;
        }
        acting_.clear();
        for (int agent = 0; agent < options_.agents; ++agent) {
            const std::size_t a = static_cast<std::size_t>(agent);
            if (!is_observed_[a]) continue;
            is_observed_[a] = false;
            if (pending_[a] >= 0) {
                say("result() was not called for an agent: its step is not recorded");
                leave(agent);
            }
            copy_observation(observation_of(agent),
                             batch_.data() + acting_.size() * static_cast<std::size_t>(options_.observation_size));
            acting_.push_back(agent);
        }
        const int count = static_cast<int>(acting_.size());
        if (count > 0) model_.evaluate(batch_.data(), count, means_.data(), values_.data());
        for (int i = 0; i < count; ++i) sample(i);
        return true;
    }

    /// Return an agent's action: one number for each of `Options::actions`, clamped to its bounds.
    const float* action(int agent) const {
        return actions_.data() + static_cast<std::size_t>(is_agent(agent) ? agent : 0) * action_width();
    }

    /// Return an agent's choice, from 0.
    int choice(int agent) const { return static_cast<int>(*action(agent)); }

    /// Record what an agent's action led to. If a limit ended the episode, pass the observation that follows the step,
    /// before the agent starts again, if there is one: a rollout that ends here then tells what would have come.
    void result(int agent, float reward, End end = End::none, const float* final_observation = nullptr) {
        if (!is_agent(agent)) return;
        const std::size_t a = static_cast<std::size_t>(agent);
        if (pending_[a] < 0) return;
        const std::size_t row = static_cast<std::size_t>(pending_[a]);
        rewards_[row] = reward;
        terminated_[row] = end == End::terminated;
        truncated_[row] = end == End::truncated;
        is_complete_[row] = true;
        last_[a] = pending_[a];
        pending_[a] = -1;
        has_final_[a] = end != End::none && final_observation != nullptr;
        if (final_observation) copy_observation(final_observation, final_of(agent));
    }

    /// Remove an agent from the game in the middle of its episode. It may be observed again later.
    void leave(int agent) {
        if (!is_agent(agent)) return;
        const std::size_t a = static_cast<std::size_t>(agent);
        is_observed_[a] = false;
        pending_[a] = -1;  // the row stays incomplete, and is not written
        if (last_[a] >= 0 && !terminated_[static_cast<std::size_t>(last_[a])])
            truncated_[static_cast<std::size_t>(last_[a])] = true;
    }

    /// Look for another model and at status.json, if `Options::poll_s` have passed. `act` calls it; call it yourself
    /// while the game does not act.
    void update() {
        const double now = detail::now_s();
        if (now < next_poll_s_) return;
        next_poll_s_ = now + options_.poll_s;
        read_status();
        if (rows() == 0 || !has_model_) load_new_model();
        if (is_waiting_) stop_waiting_if_in_vain(now);
    }

    /// Write the steps that were recorded so far; return whether a file was written. `act` does it when there are
    /// enough. Observations that were set since the last step become the final observations.
    bool write_rollout() {
        drop_incomplete_rows();
        const bool is_written = rows() > 0 && write_file();
        clear_rows();
        if (is_written && options_.pause_after_rollouts > 0 && rollouts_ % options_.pause_after_rollouts == 0) {
            is_waiting_ = true;
            waiting_since_s_ = detail::now_s();
            has_seen_training_ = false;
        }
        if (is_written) next_poll_s_ = 0.0;
        return is_written;
    }

    bool has_model() const { return has_model_; }
    const Model& model() const { return model_; }
    bool is_waiting() const { return is_waiting_; }
    DaemonState daemon_state() const { return state_; }  ///< unknown if no daemon is running
    int rollouts() const { return rollouts_; }           ///< written so far
    const std::string& last_message() const { return message_; }

private:
    // -- set-up

    static std::uint64_t seed_of_this_run() {
        const auto ticks = std::chrono::high_resolution_clock::now().time_since_epoch().count();
        int here = 0;
        const auto place = reinterpret_cast<std::uintptr_t>(&here);
        return static_cast<std::uint64_t>(ticks) * 0x9e3779b97f4a7c15u ^ static_cast<std::uint64_t>(place);
    }

    void reserve() {
        const std::size_t agents = static_cast<std::size_t>(options_.agents);
        const std::size_t size = static_cast<std::size_t>(options_.observation_size);
        const std::size_t most = static_cast<std::size_t>(options_.steps_per_rollout) + agents;
        const std::size_t outputs = static_cast<std::size_t>((std::max)(1, outputs_));
        observations_.assign(agents * size, 0.0f);
        finals_ = batch_ = observations_;
        is_observed_.assign(agents, false);
        has_final_.assign(agents, false);
        pending_.assign(agents, -1);
        last_.assign(agents, -1);
        actions_.assign(agents * action_width(), 0.0f);
        means_.assign(agents * outputs, 0.0f);
        values_.assign(agents, 0.0f);
        acting_.reserve(agents);
        row_observations_.reserve(most * size);
        row_actions_.reserve(most * action_width());
        for (std::vector<float>* column : {&rewards_, &log_probs_, &row_values_}) column->reserve(most);
        for (std::vector<std::uint8_t>* column : {&terminated_, &truncated_, &is_complete_}) column->reserve(most);
        row_agents_.reserve(most);
        pointer_text_.reserve(4096);
        loaded_text_.reserve(4096);
        status_text_.reserve(1 << 16);
    }

    /// Return the number after the highest one in Exports, so that a name is never used again.
    long long first_free_index() const {
        long long next = 0;
        std::error_code error;
        detail::fs::directory_iterator files(exports_, error), none;
        for (; !error && files != none; files.increment(error)) {
            const std::string name = detail::text_of(files->path().filename());
            long long index = -1;
            if (name.rfind("rollout_", 0) != 0) continue;
            std::from_chars(name.data() + 8, name.data() + name.size(), index);
            next = (std::max)(next, index + 1);
        }
        return next;
    }

    bool is_agent(int agent) const { return agent >= 0 && agent < options_.agents; }
    std::size_t rows() const { return rewards_.size(); }
    std::size_t action_width() const {
        return options_.choices > 0 ? 1 : (std::max)(std::size_t(1), options_.actions.size());
    }

    float* observation_of(int agent) {
        const std::size_t size = static_cast<std::size_t>(options_.observation_size);
        return observations_.data() + static_cast<std::size_t>(agent) * size;
    }

    float* final_of(int agent) {
        return finals_.data() + static_cast<std::size_t>(agent) * static_cast<std::size_t>(options_.observation_size);
    }

    void copy_observation(const float* from, float* to) const {
        for (int i = 0; i < options_.observation_size; ++i) to[i] = from[i];
    }

    // -- acting

    /// Draw the action of the i-th acting agent, and begin its row.
    void sample(int i) {
        const int agent = acting_[static_cast<std::size_t>(i)];
        const float* mean = means_.data() + static_cast<std::size_t>(i) * static_cast<std::size_t>(outputs_);
        float* action = actions_.data() + static_cast<std::size_t>(agent) * action_width();
        double log_prob = 0.0;
        if (model_.is_discrete()) {
            const int drawn = draw_choice(mean, outputs_, random_);
            action[0] = static_cast<float>(drawn);
            log_prob = log_probability(mean, outputs_, drawn);
        } else {
            const double noise = static_cast<double>((std::max)(options_.noise_std, kNoiseStdMin));
            for (int o = 0; o < outputs_; ++o) {
                const std::size_t k = static_cast<std::size_t>(o);
                const double deviation = std::exp(static_cast<double>(model_.action_log_std()[k])) * noise;
                const float drawn = static_cast<float>(static_cast<double>(mean[o]) + deviation * random_.normal());
                const Action& bounds = options_.actions[k];
                action[o] = drawn >= bounds.low ? (std::min)(drawn, bounds.high) : bounds.low;  // nan: the lower bound
            }
            log_prob = log_density(model_, options_.noise_std, mean, action);
        }
        pending_[static_cast<std::size_t>(agent)] = static_cast<std::int64_t>(rows());
        const std::size_t size = static_cast<std::size_t>(options_.observation_size);
        const float* seen = batch_.data() + static_cast<std::size_t>(i) * size;
        row_observations_.insert(row_observations_.end(), seen, seen + size);
        row_actions_.insert(row_actions_.end(), action, action + action_width());
        log_probs_.push_back(static_cast<float>(log_prob));
        row_values_.push_back(values_[static_cast<std::size_t>(i)]);
        row_agents_.push_back(agent);
        rewards_.push_back(0.0f);
        terminated_.push_back(false);
        truncated_.push_back(false);
        is_complete_.push_back(false);
    }

    void clear_rows() {
        row_observations_.clear();
        row_actions_.clear();
        for (std::vector<float>* column : {&rewards_, &log_probs_, &row_values_}) column->clear();
        for (std::vector<std::uint8_t>* column : {&terminated_, &truncated_, &is_complete_}) column->clear();
        row_agents_.clear();
        std::fill(pending_.begin(), pending_.end(), -1);
        std::fill(last_.begin(), last_.end(), -1);
        std::fill(has_final_.begin(), has_final_.end(), false);
    }

    // -- models

    /// Load the model that the pointer file names, if it is another one. If it cannot be run, keep the old one.
    void load_new_model() {
        // A pointer file that is missing or half-written, or a model that is missing, is looked at again later.
        if (!read_small(pointer_, pointer_text_)) return;
        while (!pointer_text_.empty() && static_cast<unsigned char>(pointer_text_.back()) <= ' ')
            pointer_text_.pop_back();
        if (pointer_text_.rfind("\xef\xbb\xbf", 0) == 0) pointer_text_.erase(0, 3);
        if (pointer_text_.empty() || !is_utf8(pointer_text_)) return;
        if (pointer_text_ == loaded_text_) {
            if (refused_text_.empty()) return;
            refused_text_.clear();  // the daemon has gone back to the model that runs
            write_receipt(model_.probe_error(), std::string());
            return;
        }
        const double began = detail::now_s();
        detail::fs::path path = detail::path_of(pointer_text_);
        if (path.is_relative()) path = training_.parent_path().parent_path() / path;
        std::string data, why;
        if (!detail::read_file(detail::for_system(path), detail::kMaxModelBytes, data)) return;
        if (data.size() == refused_size_ && pointer_text_ == refused_text_) return;
        Model model;
        if (!model.read(data.data(), data.size(), why) || !fits(model, why)) {
            refused_text_ = pointer_text_;
            refused_size_ = data.size();
            say((has_model_ ? "keeping the old model: " : "waiting for another model: ") + pointer_text_
                + " cannot be run: " + why);
            write_receipt(model.probe_error(), why);
            return;
        }
        model_ = std::move(model);
        has_model_ = true;
        is_waiting_ = false;
        loaded_text_ = pointer_text_;
        refused_text_.clear();
        loaded_at_s_ = detail::utc_s();
        load_ms_ = (detail::now_s() - began) * 1000.0;
        write_receipt(model_.probe_error(), std::string());
    }

    /// Return whether a model fits the game, and has the layers of the one that runs.
    bool fits(const Model& model, std::string& why) const {
        const bool is_discrete = options_.choices > 0;
        const auto words = [](int inputs, bool discrete, int outputs) {
            return std::to_string(inputs) + " observations and " + std::to_string(outputs)
                   + (discrete ? " choices" : " actions");
        };
        if (model.observation_size() != options_.observation_size || model.is_discrete() != is_discrete
            || model.output_size() != outputs_) {
            why = "it has " + words(model.observation_size(), model.is_discrete(), model.output_size())
                  + ", this game has " + words(options_.observation_size, is_discrete, outputs_)
                  + "; set [agent] in daemon.toml";
            return false;
        }
        for (std::size_t i = 0; i < model.action_names().size() && i < options_.actions.size(); ++i) {
            if (model.action_names()[i] == options_.actions[i].name) continue;
            why = "its action " + std::to_string(i) + " is " + model.action_names()[i] + ", that of this game "
                  + options_.actions[i].name + "; set agent.actions in daemon.toml";
            return false;
        }
        if (has_model_ && model.sizes() != model_.sizes()) {
            why = "its hidden layers have other sizes than those of the model that runs";
            return false;
        }
        return true;
    }

    /// Read a small file without allocating; return whether it was read.
    static bool read_small(const detail::fs::path& path, std::string& text) {
        char buffer[4096];
        detail::File file;
        if (!file.open_to_read(path)) return false;
        std::size_t size = 0;
        while (size < sizeof buffer) {
            const long count = file.read(buffer + size, sizeof buffer - size);
            if (count < 0) return false;
            if (count == 0) break;
            size += static_cast<std::size_t>(count);
        }
        if (size == sizeof buffer) return false;
        text.assign(buffer, size);
        return true;
    }

    /// Return whether a text is UTF-8 throughout: a path that is cut within a character would stop the game on Windows.
    static bool is_utf8(const std::string& text) {
        for (std::size_t i = 0; i < text.size();) {
            const unsigned char c = static_cast<unsigned char>(text[i++]);
            if (c == 0 || (c >= 0x80 && c < 0xc2) || c > 0xf4) return false;
            const int more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
            for (int k = 0; k < more; ++k, ++i)
                if (i >= text.size() || (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return false;
        }
        return true;
    }

    // -- status.json

    void read_status() {
        state_ = DaemonState::unknown;
        if (!detail::read_file(status_, detail::kMaxStatusBytes, status_text_)) return;
        detail::Json json(status_text_.data(), status_text_.size());
        std::string state;
        double heartbeat = 0.0, interval_s = 1.0;
        const bool is_read = json.object([&](std::string_view key) {
            if (key == "state") return json.string(state);
            if (key == "heartbeat") return json.number(heartbeat);
            if (key == "heartbeat_interval_s") return json.number(interval_s);
            return json.skip();
        });
        if (!is_read || detail::utc_s() - heartbeat > 3.0 * (std::max)(1.0, interval_s)) return;  // it has ended
        static const char* const names[] = {"unknown",    "idle",   "training", "selecting",
                                            "publishing", "paused", "parked"};
        for (int i = 1; i < 7; ++i)
            if (state == names[i]) state_ = static_cast<DaemonState>(i);
        if (state_ == DaemonState::parked && !was_parked_) say("the daemon is parked: `hotlap status` tells why");
        was_parked_ = state_ == DaemonState::parked;
        has_seen_training_ |= state_ == DaemonState::training;
    }

    /// Play on with the old model if no other one is to be expected: a failed cycle publishes nothing.
    void stop_waiting_if_in_vain(double now) {
        const bool is_idle = state_ == DaemonState::idle;
        const bool is_in_vain = state_ == DaemonState::parked || state_ == DaemonState::paused
                                || (is_idle && has_seen_training_) || now - waiting_since_s_ > 10.0;
        const bool is_busy = state_ == DaemonState::training || state_ == DaemonState::selecting
                             || state_ == DaemonState::publishing;
        if (is_in_vain && !is_busy) is_waiting_ = false;
    }

    // -- files

    void say(const std::string& text) {
        if (text == message_) return;
        message_ = text;
        if (options_.log) {
            options_.log(message_.c_str());
        } else {
            std::fprintf(stderr, "hotlap: %s\n", message_.c_str());
        }
    }

    void write_receipt(double probe_error, const std::string& refused) {
        if (!options_.write_receipts) return;
        std::string text = "{\"schema\": \"hotlap.receipt/1\", \"client\": ";
        detail::append_string(text, options_.client);
        text += ", \"engine\": ";
        detail::append_string(text, options_.engine);
        text += ", \"checksum\": ";
        if (has_model_) detail::append_string(text, model_.checksum());
        else text += "null";
        text += ", \"policy_version\": ";
        if (has_model_ && model_.policy_version() >= 0) detail::append_int(text, model_.policy_version());
        else text += "null";
        text += ", \"loaded_at\": ";
        if (has_model_) detail::append_number(text, loaded_at_s_);
        else text += "null";
        text += ", \"load_ms\": ";
        if (has_model_) detail::append_number(text, load_ms_);
        else text += "null";
        text += ", \"probe_error\": ";
        if (probe_error >= 0.0) detail::append_number(text, probe_error);
        else text += "null";
        text += ", \"agents\": ";
        detail::append_int(text, options_.agents);
        text += ", \"refused\": ";
        if (refused.empty()) {
            text += "null";
        } else {
            text += "{\"path\": ";
            detail::append_string(text, refused_text_);
            text += ", \"reason\": ";
            detail::append_string(text, refused);
            text += "}";
        }
        text += "}\n";
        std::error_code error;
        std::string why;
        const detail::fs::path folder = detail::for_system(training_ / "Receipts");
        detail::fs::create_directories(folder, error);
        const detail::fs::path temporary = folder / ("." + name_ + ".json.tmp");
        detail::fs::remove(temporary, error);
        if (!detail::write_whole(temporary, folder / (name_ + ".json"), text, false, why)) say(why);
    }

    /// Leave out the steps whose result is not known.
    void drop_incomplete_rows() {
        for (int agent = 0; agent < options_.agents; ++agent)
            if (pending_[static_cast<std::size_t>(agent)] >= 0) leave(agent);
        std::size_t kept = 0;
        const std::size_t size = static_cast<std::size_t>(options_.observation_size), width = action_width();
        for (std::size_t row = 0; row < rows(); ++row) {
            if (!is_complete_[row]) continue;
            if (kept != row) {
                std::copy_n(&row_observations_[row * size], size, &row_observations_[kept * size]);
                std::copy_n(&row_actions_[row * width], width, &row_actions_[kept * width]);
                rewards_[kept] = rewards_[row];
                log_probs_[kept] = log_probs_[row];
                row_values_[kept] = row_values_[row];
                terminated_[kept] = terminated_[row];
                truncated_[kept] = truncated_[row];
                row_agents_[kept] = row_agents_[row];
                const std::size_t a = static_cast<std::size_t>(row_agents_[row]);
                if (last_[a] == static_cast<std::int64_t>(row)) last_[a] = static_cast<std::int64_t>(kept);
            }
            ++kept;
        }
        row_observations_.resize(kept * size);
        row_actions_.resize(kept * width);
        for (std::vector<float>* column : {&rewards_, &log_probs_, &row_values_}) column->resize(kept);
        for (std::vector<std::uint8_t>* column : {&terminated_, &truncated_, &is_complete_}) column->resize(kept);
        row_agents_.resize(kept);
    }

    bool write_file() {
        const std::time_t seconds = std::time(nullptr);
        std::tm local = {};
#if defined(_WIN32)
        localtime_s(&local, &seconds);
#else
        localtime_r(&seconds, &local);
#endif
        char stamp[32], readable[32];
        std::strftime(stamp, sizeof stamp, "%Y%m%d_%H%M%S", &local);
        std::strftime(readable, sizeof readable, "%Y.%m.%d-%H.%M.%S", &local);
        std::error_code error;
        for (int tries = 0; tries < 100; ++tries) {
            const std::string stem = "rollout_" + std::to_string(next_index_++) + "_" + stamp + "_" + name_;
            const detail::fs::path path = exports_ / (stem + ".json");
            const detail::fs::path temporary = exports_ / (stem + ".json.tmp");
            if (detail::fs::exists(path, error) || detail::fs::exists(temporary, error)) continue;
            text_.clear();
            if (options_.format == Format::columns) write_columns(stem);
            else write_experiences(readable);
            std::string why;
            detail::fs::create_directories(exports_, error);
            if (!detail::write_whole(temporary, path, text_, options_.sync_to_disk, why)) {
                say("a rollout is lost: " + why);
                return false;
            }
            ++rollouts_;
            return true;
        }
        return false;
    }

    // -- rollout version 2

    void key(const char* name) {
        if (text_.back() != '{') text_ += ", ";
        text_ += '"';
        text_ += name;
        text_ += "\": ";
    }

    template <class Number>
    void column(const char* name, const char* type, const std::vector<Number>& numbers, std::size_t width) {
        key(name);
        text_ += "{\"dtype\": \"";
        text_ += type;
        text_ += "\", \"shape\": [";
        detail::append_int(text_, static_cast<long long>(rows()));
        if (width > 0) {
            text_ += ", ";
            detail::append_int(text_, static_cast<long long>(width));
        }
        text_ += "], \"data\": \"";
        detail::append_base64(text_, numbers.data(), numbers.size() * sizeof(Number));
        text_ += "\"}";
    }

    void write_columns(const std::string& rollout_id) {
        text_ += '{';
        key("schema");
        text_ += "\"hotlap.rollout/2\"";
        key("rollout_id");
        detail::append_string(text_, rollout_id);
        key("client");
        detail::append_string(text_, options_.client);
        if (model_.policy_version() >= 0) {
            key("policy_version");
            detail::append_int(text_, model_.policy_version());
        }
        key("noise_std");
        detail::append_number(text_, options_.noise_std);
        write_action_space();
        column("observations", "<f4", row_observations_, static_cast<std::size_t>(options_.observation_size));
        if (options_.choices > 0) write_choices();
        else column("actions", "<f4", row_actions_, action_width());
        column("rewards", "<f4", rewards_, 0);
        column("terminated", "|b1", terminated_, 0);
        column("truncated", "|b1", truncated_, 0);
        column("log_probs", "<f4", log_probs_, 0);
        column("values", "<f4", row_values_, 0);
        column("agents", "<i4", row_agents_, 0);
        write_final_observations();
        text_ += "}\n";
    }

    void write_action_space() {
        key("action_space");
        if (options_.choices > 0) {
            text_ += "{\"type\": \"discrete\", \"n\": ";
            detail::append_int(text_, options_.choices);
            text_ += '}';
            return;
        }
        text_ += "{\"type\": \"continuous\", \"names\": [";
        for (const Action& action : options_.actions) {
            if (&action != &options_.actions.front()) text_ += ", ";
            detail::append_string(text_, action.name);
        }
        text_ += "], \"low\": [";
        for (const Action& action : options_.actions) {
            if (&action != &options_.actions.front()) text_ += ", ";
            detail::append_number(text_, action.low);
        }
        text_ += "], \"high\": [";
        for (const Action& action : options_.actions) {
            if (&action != &options_.actions.front()) text_ += ", ";
            detail::append_number(text_, action.high);
        }
        text_ += "]}";
    }

    void write_choices() {
        key("actions");
        text_ += '[';
        for (std::size_t row = 0; row < rows(); ++row) {
            if (row > 0) text_ += ',';
            detail::append_int(text_, static_cast<long long>(row_actions_[row]));
        }
        text_ += ']';
    }

    /// Write what each agent observes after its last step: now, or before it started again.
    void write_final_observations() {
        key("final_observations");
        text_ += '{';
        for (int agent = 0; agent < options_.agents; ++agent) {
            const std::size_t a = static_cast<std::size_t>(agent);
            if (last_[a] < 0) continue;
            const std::size_t last = static_cast<std::size_t>(last_[a]);
            const bool has_ended = terminated_[last] || truncated_[last];
            if (has_ended ? !has_final_[a] : !is_observed_[a]) continue;
            const float* row = has_ended ? final_of(agent) : observation_of(agent);
            key(std::to_string(agent).c_str());
            text_ += '[';
            for (int i = 0; i < options_.observation_size; ++i) {
                if (i > 0) text_ += ',';
                detail::append_number(text_, row[i]);
            }
            text_ += ']';
        }
        text_ += '}';
    }

    // -- rollout version 1

    void write_experiences(const char* timestamp) {
        text_ += "{\"experiences\": [";
        const std::size_t size = static_cast<std::size_t>(options_.observation_size), width = action_width();
        for (std::size_t row = 0; row < rows(); ++row) {
            text_ += row > 0 ? ",\n{" : "\n{";
            key("state");
            text_ += '[';
            for (std::size_t i = 0; i < size; ++i) {
                if (i > 0) text_ += ',';
                detail::append_number(text_, row_observations_[row * size + i]);
            }
            text_ += ']';
            key("action");
            text_ += '{';
            for (std::size_t i = 0; i < width; ++i) {
                if (i > 0) text_ += ", ";
                detail::append_string(text_, options_.choices > 0 ? std::string("choice") : options_.actions[i].name);
                text_ += ": ";
                if (options_.choices > 0) detail::append_int(text_, static_cast<long long>(row_actions_[row]));
                else detail::append_number(text_, row_actions_[row * width + i]);
            }
            text_ += '}';
            key("reward");
            detail::append_number(text_, rewards_[row]);
            key("done");
            text_ += terminated_[row] || truncated_[row] ? "true" : "false";
            key("log_prob");
            detail::append_number(text_, log_probs_[row]);
            key("value");
            detail::append_number(text_, row_values_[row]);
            key("advantage");
            text_ += '0';
            key("return");
            text_ += '0';
            key("agent_index");
            detail::append_int(text_, row_agents_[row]);
            text_ += '}';
        }
        text_ += "],\n\"num_experiences\": ";
        detail::append_int(text_, static_cast<long long>(rows()));
        text_ += ", \"timestamp\": \"";
        text_ += timestamp;
        text_ += "\"}\n";
    }

    Options options_;
    detail::Random random_;
    int outputs_ = 0;
    std::string name_;
    detail::fs::path training_, pointer_, status_, exports_;

    Model model_;
    bool has_model_ = false;
    double loaded_at_s_ = 0.0, load_ms_ = 0.0;
    std::string pointer_text_, loaded_text_, refused_text_;
    std::size_t refused_size_ = 0;

    double next_poll_s_ = 0.0;
    DaemonState state_ = DaemonState::unknown;
    bool is_waiting_ = false, has_seen_training_ = false, was_parked_ = false;
    double waiting_since_s_ = 0.0;
    std::string status_text_, message_;

    // what the agents observe now; what they were given to do
    std::vector<float> observations_, finals_, batch_, means_, values_, actions_;
    std::vector<std::uint8_t> is_observed_, has_final_;
    std::vector<std::int64_t> pending_, last_;  // rows, or -1
    std::vector<int> acting_;

    // the steps of the rollout in progress
    std::vector<float> row_observations_, row_actions_, rewards_, log_probs_, row_values_;
    std::vector<std::uint8_t> terminated_, truncated_, is_complete_;
    std::vector<std::int32_t> row_agents_;

    long long next_index_ = 0;
    int rollouts_ = 0;
    std::string text_;
};

}  // namespace hotlap

#endif
