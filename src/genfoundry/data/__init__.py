"""Raw data to arrays: one folder a stage, and libraries that know no stage.

Door: funnel.
"""
