"""From tables to windows: which rooms turn what a user has into arrays that a forecaster can eat?"""
