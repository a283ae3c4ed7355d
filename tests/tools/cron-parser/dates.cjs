// Reads lines of JSON {expression, from, count}; writes for each a line {dates} or {error}, as npm's cron-parser sees it in UTC.
const { CronExpressionParser } = require("cron-parser");
const lines = require("node:fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
for (const line of lines) {
  const { expression, from, count } = JSON.parse(line);
  let answer;
  try {
    const schedule = CronExpressionParser.parse(expression, { currentDate: new Date(from), tz: "UTC" });
    answer = { dates: schedule.take(count).map((date) => date.toDate().toISOString()) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
