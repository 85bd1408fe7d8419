// A small game that learns while it runs: points in a square push themselves toward a goal that moves when it is reached.
//
//     point_mass [PROJECT [ROLLOUTS [v1|v2 [SECONDS_PER_STEP]]]]
//
// It ends after ROLLOUTS rollouts (0: never). Start `hotlap --project PROJECT` beside it.

#include <cmath>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "../hotlap.hpp"

namespace {

constexpr int kAgents = 16;
constexpr int kTimeLimit = 200;  // steps

/// One point: where it is, how fast it moves, and where it has to go.
class Point {
public:
    explicit Point(std::mt19937& random) : random_(&random) { start(); }

    void start() {
        x_ = place();
        y_ = place();
        vx_ = vy_ = 0.0f;
        goal_x_ = place();
        goal_y_ = place();
        steps_ = 0;
    }

    /// What the policy sees.
    void observe(float* observation) const {
        observation[0] = goal_x_ - x_;
        observation[1] = goal_y_ - y_;
        observation[2] = vx_;
        observation[3] = vy_;
    }

    /// Push, and return the reward: 1 at the goal, less further away.
    float move(float push_x, float push_y) {
        vx_ = 0.9f * vx_ + 0.03f * push_x;
        vy_ = 0.9f * vy_ + 0.03f * push_y;
        x_ += vx_;
        y_ += vy_;
        ++steps_;
        return std::exp(-3.0f * std::hypot(goal_x_ - x_, goal_y_ - y_));
    }

    bool is_outside() const { return std::fabs(x_) > 1.5f || std::fabs(y_) > 1.5f; }
    bool is_late() const { return steps_ >= kTimeLimit; }

private:
    float place() { return std::uniform_real_distribution<float>(-1.0f, 1.0f)(*random_); }

    std::mt19937* random_;
    float x_, y_, vx_, vy_, goal_x_, goal_y_;
    int steps_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    const int rollouts = argc > 2 ? std::atoi(argv[2]) : 0;
    const double seconds_per_step = argc > 4 ? std::atof(argv[4]) : 0.0;

    hotlap::Options options;
    options.project = argc > 1 ? argv[1] : ".";
    options.client = "point-mass";
    options.observation_size = 4;
    options.actions = {{"push_x", -1.0f, 1.0f}, {"push_y", -1.0f, 1.0f}};
    options.agents = kAgents;
    options.format = argc > 3 && std::string(argv[3]) == "v1" ? hotlap::Format::experiences : hotlap::Format::columns;
    hotlap::Client client(options);

    std::mt19937 random(1);
    std::vector<Point> points(kAgents, Point(random));
    for (Point& point : points) point.start();
    double total = 0.0;
    long steps = 0;

    while (rollouts == 0 || client.rollouts() < rollouts) {
        float observation[4];
        for (int i = 0; i < kAgents; ++i) {
            points[i].observe(observation);
            client.observe(i, observation);
        }
        const int written = client.rollouts();
        const bool is_acting = client.act();
        if (client.rollouts() != written) {
            std::printf("rollout %d  reward per step %.3f  model %lld\n", client.rollouts(), total / double(steps),
                        client.model().policy_version());
            std::fflush(stdout);
            total = 0.0;
            steps = 0;
        }
        if (!is_acting) {  // there is no model yet
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
            continue;
        }
        for (int i = 0; i < kAgents; ++i) {
            const float* push = client.action(i);
            const float reward = points[i].move(push[0], push[1]);
            total += double(reward);
            ++steps;
            hotlap::End end = hotlap::End::none;
            if (points[i].is_outside()) end = hotlap::End::terminated;
            else if (points[i].is_late()) end = hotlap::End::truncated;
            points[i].observe(observation);
            client.result(i, reward, end, observation);
            if (end != hotlap::End::none) points[i].start();
        }
        if (seconds_per_step > 0.0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds_per_step));
    }
    return 0;
}
