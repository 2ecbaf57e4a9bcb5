-- The transitions of budget.py, word for word. The constants are put before this text.
-- KEYS[i] holds a budget. ARGV[4i-3] to ARGV[4i]: kind (-1 takes, else a ReportKind), window, remaining, seconds.
-- Returns wait and window of each.

local FIELDS = {'mode', 'window', 'lowest', 'in_flight', 'spent', 'ends', 'blocked_until', 'taken_at', 'changed_at',
                'strays', 'old_strays', 'mark'}
local CLOSED, PROBING, OPEN, UNLIMITED = 0, 1, 2, 3

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

local function exact(number)
  return string.format('%.17g', number)
end

local function load(key)
  local stored = redis.call('HMGET', key, unpack(FIELDS))
  local budget = {}
  for i, name in ipairs(FIELDS) do
    budget[name] = tonumber(stored[i] or '0')
  end
  return budget
end

local function store(key, budget)
  local values = {}
  for _, name in ipairs(FIELDS) do
    values[#values + 1] = name
    values[#values + 1] = exact(budget[name])
  end
  redis.call('HSET', key, unpack(values))
  local needed = math.max(budget.ends, budget.blocked_until, now) - now
  redis.call('EXPIRE', key, math.ceil(needed + KEPT_S))
end

local function poll(budget, till)
  return math.min(till - now, math.max(POLL_S, PATIENCE * (now - budget.changed_at)))
end

local function probe(budget)
  budget.mode = PROBING
  budget.window = math.max(budget.window + 1, math.floor(now * 1000.0))
  if now - budget.taken_at <= TRANSIT_S then
    budget.strays = budget.strays + budget.in_flight
  else
    budget.strays, budget.old_strays = 0, 0
  end
  if budget.window - budget.mark > 1000.0 * TRANSIT_S then
    budget.old_strays, budget.strays, budget.mark = budget.strays, 0, budget.window
  end
  budget.spent = budget.strays + budget.old_strays
  budget.in_flight = 0
  budget.ends, budget.changed_at = now + PROBE_S, now
end

local function take(budget)
  if now < budget.blocked_until then
    return budget.blocked_until - now, 0
  end
  if budget.mode ~= CLOSED and now >= budget.ends then
    budget.mode = CLOSED
  end
  if budget.mode == CLOSED then
    probe(budget)
  elseif budget.mode == PROBING then
    return poll(budget, budget.ends), 0
  elseif budget.mode == OPEN and budget.lowest - budget.spent - budget.in_flight <= 0 then
    if budget.lowest > budget.spent then
      return poll(budget, budget.ends), 0
    end
    return budget.ends - now, 0
  end
  budget.in_flight = budget.in_flight + 1
  budget.taken_at = now
  return 0, budget.window
end

local function land(budget)
  budget.in_flight = math.max(0, budget.in_flight - 1)
  budget.changed_at = now
end

local function land_stray(budget, window)
  if window >= budget.mark then
    budget.strays = math.max(0, budget.strays - 1)
  else
    budget.old_strays = math.max(0, budget.old_strays - 1)
  end
end

local tell = {
  [RETURNED] = function(budget)
    land(budget)
    if budget.mode == PROBING then budget.mode = CLOSED end
  end,
  [LOST] = function(budget)
    if budget.mode == PROBING then
      budget.mode, budget.changed_at = CLOSED, now
    else
      land(budget)
      budget.spent = budget.spent + 1
    end
  end,
  [ANSWERED] = function(budget, remaining, seconds)
    land(budget)
    local ends = now + seconds + MARGIN_S
    if budget.mode == PROBING then
      budget.mode, budget.lowest, budget.ends = OPEN, remaining, ends
    elseif budget.mode == OPEN and remaining <= budget.lowest then
      budget.lowest = remaining
      if ends < budget.ends or ends > budget.ends + ROUNDING_S then budget.ends = ends end
    end
  end,
  [REFUSED] = function(budget, _, seconds)
    land(budget)
    budget.mode = CLOSED
    budget.blocked_until = math.max(budget.blocked_until, now + seconds)
  end,
  [UNANNOUNCED] = function(budget)
    land(budget)
    if budget.mode == PROBING then
      budget.mode, budget.ends = UNLIMITED, now + UNLIMITED_S
    else
      budget.spent = budget.spent + 1
    end
  end,
}

local answers = {}
for i, key in ipairs(KEYS) do
  local kind, window = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  local budget = load(key)
  local wait, taken = 0, 0
  if kind == TAKE then
    wait, taken = take(budget)
  elseif window ~= budget.window then
    land_stray(budget, window)
  else
    tell[kind](budget, tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i]))
  end
  store(key, budget)
  answers[2 * i - 1], answers[2 * i] = exact(wait), exact(taken)
end
return answers
