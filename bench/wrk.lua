-- For wrk: sends the requests of a file in turn, each ended by a NUL, and prints the figures as JSON.
local requests, next_one = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for raw in file:read("*a"):gmatch("[^%z]+") do
    requests[#requests + 1] = raw
  end
  file:close()
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\nfigures {"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,"errors":%d,"statuses":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
