//! One field of a cron expression: `*`, `?`, numbers, names, ranges, steps, lists and `L`, as npm's cron-parser reads them.
//!
//! Read here, and not by the library that computes the dates, because dialects differ in exactly these details
//! (`5/15`, Sunday as 0 and 7, values that stand twice) and a difference would be a task at the wrong time.

/// A field's place in the expression, with its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Second => "second",
            Kind::Minute => "minute",
            Kind::Hour => "hour",
            Kind::DayOfMonth => "day-of-month",
            Kind::Month => "month",
            Kind::DayOfWeek => "day-of-week",
        }
    }

    fn range(self) -> (u32, u32) {
        match self {
            Kind::Second | Kind::Minute => (0, 59),
            Kind::Hour => (0, 23),
            Kind::DayOfMonth => (1, 31),
            Kind::Month => (1, 12),
            // 7 is another name of 0, Sunday.
            Kind::DayOfWeek => (0, 7),
        }
    }

    /// Names and the number of the first of them.
    fn names(self) -> (&'static [&'static str], u32) {
        match self {
            Kind::Month => (&MONTHS, 1),
            Kind::DayOfWeek => (&DAYS, 0),
            _ => (&[], 0),
        }
    }
}

/// What a field stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Field {
    /// The field is exactly `*` or `?`: it does not restrict anything.
    pub wildcard: bool,
    /// A bit for each value.
    pub values: u64,
    /// Day of month: `L`, the last day.
    pub last_day: bool,
    /// Day of week: a bit for each `<day>L`, the last such day of the month; 7 is Sunday too.
    pub last_weekdays: u64,
    /// Day of week: `<day>#<nth>`.
    pub nth: Option<u32>,
}

impl Field {
    /// Reads a field. The error says what is wrong with it, and names the field.
    pub fn parse(kind: Kind, text: &str) -> Result<Field, String> {
        Self::read(kind, text).map_err(|why| format!("the {} field {text:?} {why}", kind.name()))
    }

    fn read(kind: Kind, text: &str) -> Result<Field, String> {
        let mut field = Field { wildcard: matches!(text, "*" | "?"), ..Field::default() };
        let mut list = text;
        if kind == Kind::DayOfWeek
            && let Some((day, nth)) = text.split_once('#')
        {
            if day.contains([',', '-', '/', 'L']) {
                return Err("may not combine # with lists, ranges, steps or L".to_owned());
            }
            let nth = number(nth).filter(|nth| (1..=5).contains(nth));
            field.nth = Some(nth.ok_or("must have a number from 1 to 5 after #")?);
            list = day;
        }
        for item in list.split(',') {
            field.add(kind, item)?;
        }
        Ok(field)
    }

    fn add(&mut self, kind: Kind, item: &str) -> Result<(), String> {
        if item.is_empty() {
            return Err("has an empty list item".to_owned());
        }
        if kind == Kind::DayOfMonth && item == "L" {
            if std::mem::replace(&mut self.last_day, true) {
                return Err("names L twice".to_owned());
            }
            return Ok(());
        }
        if kind == Kind::DayOfWeek
            && let Some(day) = item.strip_suffix('L')
        {
            if day.is_empty() {
                return Err("must name a day before L, as in 5L, the last Friday of the month".to_owned());
            }
            let bit = 1 << value(kind, day)?;
            if self.last_weekdays & bit != 0 {
                return Err(format!("names {item} twice"));
            }
            self.last_weekdays |= bit;
            return Ok(());
        }
        let added = bits(kind, item)?;
        let twice = self.values & added;
        if twice != 0 {
            return Err(format!("names {} twice", twice.trailing_zeros()));
        }
        self.values |= added;
        Ok(())
    }

    /// The values in ascending order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        ones(self.values)
    }

    /// The weekdays of `<day>L`, from 0, Sunday.
    pub fn last_weekday_numbers(&self) -> impl Iterator<Item = u32> {
        ones((self.last_weekdays | self.last_weekdays >> 7) & 0x7f)
    }
}

fn ones(bits: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| bits & (1 << bit) != 0)
}

/// The values of one list item.
fn bits(kind: Kind, item: &str) -> Result<u64, String> {
    let (least, greatest) = kind.range();
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => {
            let step = number(step).filter(|step| *step > 0);
            (range, Some(step.ok_or("must have a number above 0 after /")?))
        }
        None => (item, None),
    };
    let (first, last) = if matches!(range, "*" | "?") {
        (least, greatest)
    } else if let Some((first, last)) = range.split_once('-') {
        (value(kind, first)?, value(kind, last)?)
    } else {
        let first = value(kind, range)?;
        // `5/15` is `5-59/15`.
        (first, if step.is_some() { greatest } else { first })
    };
    if first > last {
        return Err(format!("has the range {first}-{last}, which begins after its end"));
    }
    let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
    let fold = |value: u32| if kind == Kind::DayOfWeek { value % 7 } else { value };
    Ok((first..=last).step_by(step).fold(0, |bits, value| bits | 1 << fold(value)))
}

/// A number or a name within the field's range.
fn value(kind: Kind, text: &str) -> Result<u32, String> {
    let (least, greatest) = kind.range();
    let (names, first) = kind.names();
    if let Some(index) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(first + index as u32);
    }
    match number(text) {
        Some(number) if (least..=greatest).contains(&number) => Ok(number),
        Some(number) => Err(format!("has {number}, which is not between {least} and {greatest}")),
        None if text.contains('H') => {
            Err("has H, a value that would be another in each process: write the value itself".to_owned())
        }
        None if text.contains('W') => Err("has W (the nearest weekday), which is not supported".to_owned()),
        None => {
            let wanted = if names.is_empty() { "a number" } else { "a number or a three-letter name" };
            Err(format!("has {text:?} where {wanted} is needed"))
        }
    }
}

fn number(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}
