//! Cron expressions against npm's cron-parser itself, which Taskcluster uses: what pulsehook takes, cron-parser takes,
//! and it means the same moments; what pulsehook refuses although cron-parser takes it is listed here.

use std::io::Write as _;
use std::process::{Command, Stdio};

use chrono::{DateTime, SecondsFormat, Utc};
use pulsehook::schedule::Schedule;
use serde_json::{Value, json};

use super::packages;

/// Moments around which calendars are odd: leap days, the ends of months and years, a century without a leap day.
const FROM: [&str; 8] = [
    "2026-11-22T10:05:30Z",
    "2024-02-28T23:59:59Z",
    "2024-02-29T12:00:00Z",
    "2026-12-31T23:59:59Z",
    "2027-02-28T23:30:00Z",
    "2026-04-30T00:00:00Z",
    "2026-01-31T00:00:00.500Z",
    "2099-12-31T23:00:00Z",
];

const COUNT: usize = 8;

/// Expressions as real hooks have them, and one for each rule of the dialect.
const CORPUS: &str = "
0 0 */6 * * *|0 0 * * * *|0 0 0 * * *|0 30 5 * * *|0 0 4 * * 1|0 0 8 * * 1,3,5|0 */15 * * * *|*/30 * * * * *
0 0 2,14 * * *|15 10 * * *|0 9 * * 1-5|*/5 * * * *|0 */2 * * *|0 0 1 * *|0 0 1 1 *|30 23 31 12 *|0 0 0 1 */3 *
@yearly|@annually|@monthly|@weekly|@daily|@hourly|@minutely|@secondly|@weekdays|@weekends|@Daily|@reboot|@
0 0 29 2 *|0 0 30 2 *|0 0 31 2 *|0 0 31 4,6 *|0 0 30 2,4 *|0 0 31 2 1|0 0 30 2 MON|0 0 29 2 0|0 0 31 * *|0 0 29,30,31 * *
0 0 L * *|0 0 L 2 *|0 0 1,L * *|0 0 L,15 * 1|0 0 L-3 * *|0 0 L/2 * *|0 0 15L * *|0 0 L,L * *|0 0 l * *|L * * * *
0 0 * * 5L|0 0 * * FRIL|0 0 * * 0L|0 0 * * 7L|0 0 * * 1L,5L|0 0 * * 1,5L|0 0 * * 5L,5|0 0 * * 5L,5L|0 0 * * L|0 0 * * 8L|0 0 * * 0L,7L
0 0 13 * 5|0 0 13 * FRI|0 0 13 * 5L|0 0 1-7 * 1|0 0 */2 * 1|0 0 * * */2|0 0 ? * 1|0 0 1 * ?|0 0 ? * ?|? ? ? * *|? ? ? ? ? ?
0 0 * * 1#1|0 0 * * 1#5|0 0 * * MON#2|0 0 * * 7#1|0 0 * * 0#3|0 0 1 * 1#1|0 0 * * 1#0|0 0 * * 1#6|0 0 * * 1#|0 0 * * #1|0 0 * * 1#1#1
0 0 * * 1,2#1|0 0 * * 1#1,3#2|0 0 * * 1-5#2|0 0 * * */2#1|0 0 * * *#2|0 0 * * ?#2|0 0 * * 1#+2|0 0 * * mon#5|0 0 * 2 1#5
0 0 * * 0|0 0 * * 7|0 0 * * 0,7|0 0 * * 0-7|0 0 * * 1-7|0 0 * * 5-7|0 0 * * 6-7|0 0 * * 1-7/2|0 0 * * 1-7/3|0 0 * * 0-7/7|0 0 * * 7-7|0 0 * * 5-1|0 0 * * 0-6,7|0 0 * * 8
0 0 * * SUN|0 0 * * sun|0 0 * * Mon-Fri|0 0 * * mon,wed|0 0 * * SUN-SAT|0 0 * * SAT-SUN|0 0 * * MON/2|0 0 * * Monday|0 0 * * foo|0 0 * * SUNMON
0 0 1 JAN *|0 0 1 jan-mar *|0 0 1 Jan,Jul *|0 0 1 NOV/2 *|0 0 1 JANUARY *|0 0 1 JANFEB *|0 0 1 13 *|0 0 1 0 *|0 0 1 1-12/5 *|0 0 1 MON *
5/15 * * * *|0/5 * * * *|55/10 * * * *|*/7 * * * *|*/59 * * * *|*/60 * * * *|*/100 * * * *|*/0 * * * *|*/ * * * *|/5 * * * *|5/ * * * *|1-30/7 * * * *|1/2/3 * * * *
*-*/5 * * * *|1-*/5 * * * *|1- * * * *|-1 * * * *|1-2-3 * * * *|9-5 * * * *|1,,2 * * * *|,1 * * * *|1, * * * *|1,1 * * * *|5,1-9 * * * *|*,5 * * * *|*/30,15 * * * *|5-5 * * * *
05 05 05 05 *|005 * * * *|60 * * * *|* 24 * * *|* * 32 * *|* * 0 * *|1.5 * * * *|1e1 * * * *|0x5 * * * *|+5 * * * *| 5 * * * * |5\t*\t*  * *
H * * * *|H/5 * * * *|H(0-5) * * * *|0 H * * *|15W * * * *|0 0 15W * *|0 0 LW * *|* * * *|* * *|*|x|* * * * * * *|0 0 0 1 1 * 2027|0 0 0 1 1 5+1
59 59 23 31 12 *|0 0 0 1 1 0|0 0 12 1/5 * ?|0 0 0 1 1/4 *|0 0 0-6 * * *|0 0 22-23,0-2 * * *|* * 1 1 1 *|0,20,40 * * * * *|1-59/2 * * * * *|0 59 */12 * * 0-4
";

/// A generator with a seed: expressions that are mostly well formed, over all fields and forms.
struct Made(u64);

impl Made {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn value(&mut self, (least, greatest): (u64, u64)) -> u64 {
        // Now and then just outside.
        if self.below(60) == 0 { greatest + 1 } else { least + self.below(greatest - least + 1) }
    }

    fn item(&mut self, field: usize) -> String {
        let range = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)][field];
        let (one, two) = (self.value(range), self.value(range));
        let (low, high) = if self.below(20) == 0 { (two, one) } else { (one.min(two), one.max(two)) };
        let step = 1 + self.below(range.1);
        match self.below(12) {
            0 => format!("*/{step}"),
            1 => format!("?/{step}"),
            2 | 3 => format!("{low}-{high}"),
            4 => format!("{low}-{high}/{step}"),
            5 => format!("{one}/{step}"),
            6 if field == 3 => "L".to_owned(),
            6 if field == 5 => format!("{one}L"),
            7 if field == 5 => {
                let day = ["sun", "MON", "Tue", "wed", "THU", "fri", "Sat"][self.below(7) as usize];
                let nth = self.below(7);
                [day.to_owned(), format!("{day}L"), format!("{day}#{nth}"), format!("{one}#{nth}")]
                    [self.below(4) as usize]
                    .clone()
            }
            7 if field == 4 => ["jan", "FEB", "Mar", "jul-sep", "oct/2"][self.below(5) as usize].to_owned(),
            _ => one.to_string(),
        }
    }

    fn expression(&mut self) -> String {
        let mut fields = Vec::new();
        for field in (if self.below(3) == 0 { 1 } else { 0 })..6 {
            fields.push(match self.below(10) {
                0..4 => "*".to_owned(),
                4 => "?".to_owned(),
                5 => format!("{},{}", self.item(field), self.item(field)),
                _ => self.item(field),
            });
        }
        fields.join(" ")
    }
}

/// What cron-parser takes and pulsehook refuses, on purpose.
fn refused_on_purpose(expression: &str) -> bool {
    let fields = expression.split_whitespace().count();
    // A value that each process picks anew; seconds and minutes that nobody wrote.
    let unforeseeable = expression.contains('H') || (fields < 5 && !expression.starts_with('@'));
    // Names that run together, which cron-parser reads as the digits of one number.
    let names = expression.contains("SUNMON") || expression.contains("JANFEB");
    unforeseeable || names || expression.contains("#+")
}

fn cron_parser(questions: &[Value]) -> Vec<Value> {
    let mut node = Command::new("node")
        .arg("dates.cjs")
        .current_dir(packages::node("cron-parser", "dates.cjs"))
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    let mut input = node.stdin.take().unwrap();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = node.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn expressions_mean_what_they_mean_to_cron_parser_or_are_refused() {
    let mut expressions: Vec<String> = CORPUS
        .lines()
        .flat_map(|line| line.split('|'))
        .filter(|text| !text.is_empty())
        .map(|text| text.replace("\\t", "\t"))
        .collect();
    let mut made = Made(0x2026_1122);
    expressions.extend((0..1_000).map(|_| made.expression()));

    let mut questions = Vec::new();
    let mut compiled = Vec::new();
    for expression in &expressions {
        compiled.push(Schedule::compile(std::slice::from_ref(expression)));
        for from in FROM {
            questions.push(json!({ "expression": expression, "from": from, "count": COUNT }));
        }
    }
    let answers = cron_parser(&questions);
    assert_eq!(answers.len(), questions.len());

    let (mut same, mut refused, mut faults) = (0, 0, Vec::new());
    for (index, (question, answer)) in questions.iter().zip(&answers).enumerate() {
        let expression = question["expression"].as_str().unwrap();
        let from: DateTime<Utc> = question["from"].as_str().unwrap().parse().unwrap();
        let theirs = answer["dates"].as_array();
        match (&compiled[index / FROM.len()], theirs) {
            (Ok(schedule), Some(theirs)) => {
                let ours: Vec<Value> = schedule
                    .after(from)
                    .take(COUNT)
                    .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true).into())
                    .collect();
                if ours == *theirs {
                    same += 1;
                } else {
                    faults.push(format!("{expression:?} from {from}: {ours:?}, cron-parser {theirs:?}"));
                }
            }
            (Ok(_), None) => {
                faults.push(format!("{expression:?} is taken; cron-parser says {}", answer["error"]))
            }
            (Err(problems), Some(_)) if !refused_on_purpose(expression) => {
                faults.push(format!("{expression:?} is refused ({}); cron-parser takes it", problems[0]));
            }
            (Err(_), _) => refused += 1,
        }
    }
    faults.dedup();
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
    println!("{} expressions: {same} lists of dates are the same, {refused} are refused", expressions.len());
    assert!(same > 4_000 && refused > 500, "{same} {refused}: the corpus no longer tries what it should");
}
