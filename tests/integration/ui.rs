//! The pages, in a real headless Chromium driven through WebDriver, and their forms without any browser.

#[path = "ui/access.rs"]
mod access;
#[path = "ui/actions.rs"]
mod actions;
#[path = "ui/browser.rs"]
mod browser;
#[path = "ui/deployment.rs"]
mod deployment;
#[path = "ui/hostile.rs"]
mod hostile;
#[path = "ui/pages.rs"]
mod pages;
#[path = "ui/weight.rs"]
mod weight;
