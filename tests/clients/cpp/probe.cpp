// What the tests ask of hotlap.hpp:
//     probe evaluate MODEL OBSERVATIONS N OUT    N observations as float32 in; means and values as float32 out
//     probe frames PROJECT AGENTS INPUTS OUTPUTS    memory allocations in 200 frames, and the median time of a step
//     probe choices PROJECT INPUTS CHOICES v1|v2    write one rollout with choices

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <new>

#include "../../../clients/cpp/hotlap.hpp"

static long allocations = 0;

void* operator new(std::size_t size) {
    ++allocations;
    void* memory = std::malloc(size);
    if (!memory) std::abort();
    return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

std::string content(const char* path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

int evaluate(char** argv) {
    const std::string json = content(argv[2]), bytes = content(argv[3]);
    hotlap::Model model;
    std::string why;
    if (!model.read(json.data(), json.size(), why)) {
        std::printf("refused: %s\n", why.c_str());
        return 1;
    }
    const std::size_t n = std::strtoul(argv[4], nullptr, 10);
    std::vector<float> observations(bytes.size() / sizeof(float)), means(n * std::size_t(model.output_size())), values(n);
    std::memcpy(observations.data(), bytes.data(), bytes.size());
    model.evaluate(observations.data(), int(n), means.data(), values.data());
    std::ofstream out(argv[5], std::ios::binary);
    out.write(reinterpret_cast<const char*>(means.data()), std::streamsize(means.size() * sizeof(float)));
    out.write(reinterpret_cast<const char*>(values.data()), std::streamsize(values.size() * sizeof(float)));
    std::printf("%s %.3e\n", model.checksum().c_str(), model.probe_error());
    return 0;
}

hotlap::Options options_for(const char* project, int inputs) {
    hotlap::Options options;
    options.project = project;
    options.observation_size = inputs;
    options.seed = 1;
    return options;
}

int frames(char** argv) {
    const int agents = std::atoi(argv[3]), inputs = std::atoi(argv[4]), outputs = std::atoi(argv[5]);
    hotlap::Options options = options_for(argv[2], inputs);
    options.agents = agents;
    options.steps_per_rollout = agents * 1000;
    options.poll_s = 0.0;  // looks at the files in each frame
    for (int i = 0; i < outputs; ++i) options.actions.push_back({"a" + std::to_string(i), -1.0f, 1.0f});
    hotlap::Client client(options);
    std::vector<float> observation(std::size_t(inputs), 0.1f);
    std::vector<double> times;
    times.reserve(200);
    long before = 0;
    for (int frame = -5; frame < 200; ++frame) {
        if (frame == 0) before = allocations;
        for (int i = 0; i < agents; ++i) client.observe(i, observation.data());
        const auto began = std::chrono::steady_clock::now();
        if (!client.act()) return 1;
        const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - began;
        if (frame >= 0) times.push_back(taken.count());
        for (int i = 0; i < agents; ++i) client.result(i, 1.0f);
    }
    const long after = allocations;
    std::sort(times.begin(), times.end());
    std::printf("%ld %.4f %d\n", after - before, times[times.size() / 2], int(client.daemon_state()));
    return 0;
}

int choices(char** argv) {
    hotlap::Options options = options_for(argv[2], std::atoi(argv[3]));
    options.choices = std::atoi(argv[4]);
    options.agents = 3;
    options.steps_per_rollout = 300;
    if (argv[5][1] == '1') options.format = hotlap::Format::experiences;
    hotlap::Client client(options);
    std::vector<float> observation(std::size_t(options.observation_size));
    for (int frame = 0; client.rollouts() == 0; ++frame) {
        for (int i = 0; i < 3; ++i) {
            for (std::size_t k = 0; k < observation.size(); ++k) observation[k] = std::sin(float(frame * 3 + i) + float(k));
            client.observe(i, observation.data());
        }
        if (!client.act()) return 1;
        for (int i = 0; i < 3; ++i) {
            if (client.choice(i) < 0 || client.choice(i) >= options.choices) return 2;
            if (i == 2 && frame == 50) continue;  // its result never comes
            client.result(i, float(client.choice(i)), frame % 20 == 19 ? hotlap::End::truncated : hotlap::End::none);
        }
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 5 ? argv[1] : "";
    if (what == "evaluate") return evaluate(argv);
    if (what == "frames") return frames(argv);
    if (what == "choices") return choices(argv);
    return 3;
}
